"""Gates between seen and unseen classes."""
