"""Where models are served: one protocol, its fake, and one adapter per wire format."""
