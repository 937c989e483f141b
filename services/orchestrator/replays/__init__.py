"""One answer for a request id, however often it is asked."""
