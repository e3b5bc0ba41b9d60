"""What Triptych leans on in the libraries below it: versions, private names, and what differs between versions."""
