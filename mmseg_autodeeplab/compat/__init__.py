"""What must be installed; gaps between released libraries, closed."""
