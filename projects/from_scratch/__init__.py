"""Linear regression, logistic regression and a small network, by hand."""
