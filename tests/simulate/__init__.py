"""Markets whose truth is known."""
