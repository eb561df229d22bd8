"""What campaigns are worth."""
