"""What light of an image is whose: profiles of sources, what they add to each other, and how well that is known."""
