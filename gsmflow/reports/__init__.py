"""Tables, figures, published results and the page of a run."""
