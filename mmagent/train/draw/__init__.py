"""Pictures drawn from seeds: strokes, products, papers, everyday scenes. It knows pixels, no tasks."""
