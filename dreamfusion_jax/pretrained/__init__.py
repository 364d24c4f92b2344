"""Published text-to-image models: DeepFloyd IF and Stable Diffusion, from a folder or the hub."""
