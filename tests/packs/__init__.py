"""Packs for other trades: their own inputs, declared by mapping only."""
