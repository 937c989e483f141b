"""Which tiers may answer a request, where to start, and why: pure functions of request, judgement and configuration."""
