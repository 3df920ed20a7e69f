# Writes the data sets of the reference tests as CSV: classic ones from R's datasets package (with their sources), two
# unbalanced cuts of them, and a made-up one on the legal adapter position pairs.
# Run: Rscript data_sets.R   (R 4.2.2), in this folder.
write_csv <- function(data, name) write.csv(data, name, row.names = FALSE, quote = FALSE)

write_csv(warpbreaks, "warpbreaks.csv")    # Tippett (1950), Technological Applications of Statistics, p. 106
write_csv(npk[c("block", "N", "P", "K", "yield")], "npk.csv")  # Imperial College, in Venables & Ripley (2002), 6.7
tooth <- ToothGrowth                       # Crampton (1947), Journal of Nutrition 33:491
write_csv(tooth, "tooth_growth.csv")
write_csv(tooth[-c(1, 2, 3, 14, 31, 32, 45, 46, 47, 48), ], "tooth_unbalanced.csv")
# One empty cell: no 2 mg of VC.
write_csv(tooth[!(tooth$supp == "VC" & tooth$dose == 2), ], "tooth_empty_cell.csv")

pairs <- c("SA_in SA_in", "SA_in CA_in", "SA_in FFN_in", "SA_in Trans_out", "SA_out CA_in", "SA_out FFN_in",
  "SA_out Trans_out", "CA_in CA_in", "CA_in FFN_in", "CA_in Trans_out", "CA_c CA_c", "CA_out FFN_in", "CA_out Trans_out",
  "FFN_in FFN_in", "FFN_in Trans_out", "FFN_out Trans_out", "Trans_out Trans_out", "Res_in Res_in", "Res_in Res_out",
  "Res_out Res_out")
set.seed(20230331)
positions <- expand.grid(pair = pairs, activation = c("relu", "sigmoid", "silu", "identity"), seed = 1:2,
                         stringsAsFactors = FALSE)
positions$input <- sub(" .*", "", positions$pair)
positions$output <- sub(".* ", "", positions$pair)
effect <- c(SA_in = 0, SA_out = .02, CA_in = .01, CA_c = .05, CA_out = .06, FFN_in = .02, FFN_out = .01, Trans_out = -.01,
            Res_in = -.03, Res_out = -.04)
positions$score <- round(0.8 + effect[positions$input] + 0.004 * (positions$activation == "silu") +
                         0.01 * (positions$output == "FFN_in") + 0.006 * (positions$seed == 2) +
                         rnorm(nrow(positions), sd = 0.015), 5)
write_csv(positions[c("input", "output", "activation", "seed", "score")], "positions.csv")
