"""From a page's HTML to its text and what it says about itself."""
