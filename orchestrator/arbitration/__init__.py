"""What we do about a moment: which campaigns may answer, which one does, and why the others do not."""
