"""A model provider for development and tests, and a small trace store. Never part of a production deployment."""
