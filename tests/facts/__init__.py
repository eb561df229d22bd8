"""What triggers say beside what they are about."""
