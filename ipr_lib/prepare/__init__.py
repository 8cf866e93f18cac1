"""From what data-set owners hand out to what training reads, in Python alone."""
