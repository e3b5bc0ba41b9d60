// Only in a build with TRIPTYCH_PORTABLE: what the C++ library that is linked in would otherwise need of a newer glibc.
extern "C" {
// Counts of references read it (glibc 2.32); false means that other threads may run, so that they are always atomic.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
