"""What triggers say beside what they are about: the names of a campaign's `with`, filled in when a message goes out."""
