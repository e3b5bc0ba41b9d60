"""``triptych chat``: a page on this machine on which a model is asked about several images."""
