"""The explorer: a page on this machine on which curves follow sliders."""
