"""Hourglass: what a fixed context vector costs a sequence-to-sequence model, and what attention buys back."""
