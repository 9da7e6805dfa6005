"""Physics of what degrades an image: from a clean image and a random generator to the degraded one."""
