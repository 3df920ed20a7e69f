# Reference numbers of marginal means, comparisons and the distributions under them.
# Run after data_sets.R: Rscript comparisons.R > comparisons.json
suppressMessages({library(emmeans); library(multcomp); library(mvtnorm); library(jsonlite)})
read <- function(file, factors) {
  data <- read.csv(file, stringsAsFactors = FALSE)
  for (f in factors) data[[f]] <- factor(data[[f]])
  data
}

emm_case <- function(name, file, response, factors, formula, of) {
  data <- read(file, factors)
  fit <- lm(as.formula(paste(response, "~", formula)), data)
  em <- emmeans(fit, of)
  frame <- as.data.frame(summary(em, infer = c(TRUE, FALSE)))
  grid_levels <- apply(frame[of], 1, function(row) as.list(as.character(row)))
  pairs_frame <- function(adjust) {
    s <- as.data.frame(summary(pairs(em), adjust = adjust, infer = c(TRUE, TRUE)))
    list(estimate = s$estimate, se = s$SE, t = s$t.ratio, p = s$p.value, low = s$lower.CL, high = s$upper.CL)
  }
  list(name = name, file = file, response = response, factors = factors, formula = formula, of = I(of),
       levels = lapply(unname(grid_levels), function(l) I(unlist(unname(l)))), mean = frame$emmean, se = frame$SE, low = frame$lower.CL, high = frame$upper.CL,
       tukey = pairs_frame("tukey"), holm = pairs_frame("holm")$p, bh = pairs_frame("BH")$p, none = pairs_frame("none")$p)
}

cases <- list(
  emm_case("warpbreaks tension", "warpbreaks.csv", "breaks", c("wool", "tension"), "wool*tension", "tension"),
  emm_case("warpbreaks cells", "warpbreaks.csv", "breaks", c("wool", "tension"), "wool*tension", c("tension", "wool")),
  emm_case("tooth unbalanced dose", "tooth_unbalanced.csv", "len", c("supp", "dose"), "supp*dose", "dose"),
  emm_case("tooth unbalanced additive", "tooth_unbalanced.csv", "len", c("supp", "dose"), "supp+dose", "dose"),
  emm_case("npk in blocks", "npk.csv", "yield", c("N", "P", "K", "block"), "block+N+P+K", c("P", "N")))

# TukeyHSD itself, on the balanced one-way view.
hsd <- TukeyHSD(aov(breaks ~ tension, read("warpbreaks.csv", "tension")))$tension

# Dunnett: multivariate t with correlations lambda_i lambda_j, Genz-Bretz with tight limits.
set.seed(1)
dunnett <- lapply(list(list(n = c(10, 10, 10, 10), df = 36), list(n = c(6, 9, 4), df = 16),
                       list(n = c(12, 5, 5, 7, 9), df = 33), list(n = rep(3, 9), df = 18)), function(d) {
  lambda <- sqrt(d$n[-1] / (d$n[-1] + d$n[1]))
  corr <- outer(lambda, lambda); diag(corr) <- 1
  exact <- GenzBretz(maxpts = 1e6, abseps = 1e-6, releps = 0)
  two <- sapply(c(1, 2, 3), function(t) 1 - pmvt(rep(-t, length(lambda)), rep(t, length(lambda)), df = d$df, corr = corr,
                                                  algorithm = exact))
  one <- sapply(c(0, 1, 2, 3), function(t) 1 - pmvt(rep(-Inf, length(lambda)), rep(t, length(lambda)), df = d$df,
                                                     corr = corr, algorithm = exact))
  list(lambda = lambda, df = d$df, two_sided = two, one_sided = one)
})
fit <- lm(len ~ dose, read("tooth_unbalanced.csv", "dose"))
glht_dunnett <- summary(glht(fit, linfct = mcp(dose = "Dunnett")), test = adjusted("single-step", maxpts = 1e6, abseps = 1e-6))

p <- c(0.01, 0.02, 0.03, 0.005, 0.5, 0.04, 0.9, 0.0001)
cat(toJSON(list(emm = cases,
  tukey_hsd = list(difference = hsd[, "diff"], low = hsd[, "lwr"], high = hsd[, "upr"], p = hsd[, "p adj"]),
  dunnett = dunnett,
  tooth_dunnett = list(t = as.numeric(glht_dunnett$test$tstat), p = as.numeric(glht_dunnett$test$pvalues)),
  p_adjust = list(p = p, holm = p.adjust(p, "holm"), bh = p.adjust(p, "BH"))),
  digits = I(16), auto_unbox = TRUE, pretty = FALSE, na = "string"), "\n")
