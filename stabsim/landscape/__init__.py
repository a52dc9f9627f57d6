"""Loss surfaces: gradients, Hessians, critical points and their index."""
