"""Records put into the shapes that people look at: trees, figures, texts. Pure; knows the model."""
