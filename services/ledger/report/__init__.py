"""What the ledger holds, as figures: cost, savings and quality side by side."""
