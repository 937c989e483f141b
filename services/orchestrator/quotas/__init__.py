"""What tenants and keys may spend, how fast they may ask, and who they are: docs/quotas.md."""
