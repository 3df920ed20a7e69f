"""The legal pairs of an adapter's positions (arXiv 2303.18181): where it reads, and where it may add then."""

OUTPUTS = {
    "SA_in": ["SA_in", "CA_in", "FFN_in", "Trans_out"], "SA_out": ["CA_in", "FFN_in", "Trans_out"], "CA_in": ["CA_in", "FFN_in", "Trans_out"],
    "CA_c": ["CA_c"], "CA_out": ["FFN_in", "Trans_out"], "FFN_in": ["FFN_in", "Trans_out"], "FFN_out": ["Trans_out"],
    "Trans_out": ["Trans_out"], "Res_in": ["Res_in", "Res_out"], "Res_out": ["Res_out"],
}
