"""Files of weights: their headers, and the parameters that their tensors hold. No weight is read."""
