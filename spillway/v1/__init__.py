"""Generated from protos/spillway/v1 by scripts/generate-protos. Never edit."""
