# Reference numbers of the mixed model: variance components by lme4, F tests with containment degrees of freedom by nlme.
# Run after data_sets.R: Rscript mixed_model.R > mixed_model.json
suppressMessages({library(lme4); library(nlme); library(jsonlite)})
options(contrasts = c("contr.sum", "contr.poly"))
read <- function(file, factors) {
  data <- read.csv(file, stringsAsFactors = FALSE)
  for (f in factors) data[[f]] <- factor(data[[f]])
  data
}
npk <- read("npk.csv", c("block", "N", "P", "K"))
write.csv(npk[-c(2, 7, 11, 23, 24), ], "npk_unbalanced.csv", row.names = FALSE, quote = FALSE)
# A term between blocks: whole plots get V, subplots get N (Yates' oats, in MASS).
oats <- MASS::oats
oats$plot <- factor(paste(oats$B, oats$V, sep = ""))
oats$V <- gsub("[ .]", "_", oats$V)
write.csv(data.frame(plot = oats$plot, V = oats$V, N = oats$N, Y = oats$Y), "oats.csv", row.names = FALSE, quote = FALSE)

one <- function(file, response, factors, formula, block, type) {
  data <- read(file, c(factors, block))
  f4 <- lmer(as.formula(paste(response, "~", formula, "+ (1 |", block, ")")), data,
             control = lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12)))
  v <- as.data.frame(VarCorr(f4))
  f3 <- lme(as.formula(paste(response, "~", formula)), data, random = as.formula(paste("~ 1 |", block)),
            control = lmeControl(tolerance = 1e-12, msTol = 1e-12, niterEM = 100))
  tab <- anova(f3, type = type)[-1, ]
  list(file = file, response = response, factors = factors, formula = formula, block = block,
       ss_type = if (type == "sequential") 1 else 3, block_variance = v$vcov[1], residual_variance = v$vcov[2],
       terms = data.frame(term = rownames(tab), df = tab$numDF, den = tab$denDF, f = tab[["F-value"]], p = tab[["p-value"]]))
}
cat(toJSON(list(
  one("npk.csv", "yield", c("N", "P", "K"), "N+P+K+N:P", "block", "sequential"),
  one("npk_unbalanced.csv", "yield", c("N", "P", "K"), "N+P+K", "block", "sequential"),
  one("npk_unbalanced.csv", "yield", c("N", "P", "K"), "N+P+K", "block", "marginal"),
  one("oats.csv", "Y", c("V", "N"), "V*N", "plot", "sequential")), digits = I(15), auto_unbox = TRUE), "\n")
