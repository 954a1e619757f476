"""Who the plugins are, how they are asked, and what is checked of what they give."""
