"""What campaigns are worth: measured against randomised control, from outcome records alone."""
