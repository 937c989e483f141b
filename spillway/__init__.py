"""Spillway: each LLM request goes to the cheapest model that can answer it, with the proof that the answer is good."""
