# Reference numbers of the assumption checks and of the tests for when they fail.
# Run after data_sets.R: Rscript assumptions.R > assumptions.json
suppressMessages({library(car); library(MASS); library(jsonlite)})
read <- function(file, factors) {
  data <- read.csv(file, stringsAsFactors = FALSE)
  for (f in factors) data[[f]] <- factor(data[[f]])
  data
}
tooth <- read("tooth_unbalanced.csv", c("supp", "dose"))
warp <- read("warpbreaks.csv", c("wool", "tension"))

samples <- list(tooth = tooth$len, warp = warp$breaks, three = c(1, 2, 4.5), seven = c(2, 3, 5, 7, 11, 13, 17),
                eleven = c(0.1, 0.3, 0.2, 0.9, 0.5, 0.45, 0.41, 0.6, 1.9, 0.7, 0.33), skew = exp(seq(-2, 3, length.out = 200)))
shapiro <- lapply(names(samples), function(n) {
  s <- shapiro.test(samples[[n]])
  list(name = n, values = I(samples[[n]]), w = unname(s$statistic), p = s$p.value)
})

welch <- oneway.test(len ~ dose, tooth)
kw <- kruskal.test(len ~ dose, tooth)
levene <- leveneTest(breaks ~ tension, warp, center = mean)
brown <- leveneTest(breaks ~ tension, warp, center = median)

fit <- lm(len ~ supp * dose, tooth)
influence <- list(leverage = unname(hatvalues(fit)), cooks = unname(cooks.distance(fit)), studentized = unname(rstandard(fit)),
                  fitted = unname(fitted(fit)))

bc <- boxcox(lm(breaks ~ wool * tension, warp, y = TRUE), lambda = seq(-2, 2, by = 0.0005), plotit = FALSE)
inside <- bc$x[bc$y > max(bc$y) - qchisq(0.95, 1) / 2]

x <- c(3.1, 2.2, 5.5, 5.5, 1.0, 9.2, 7.7, 4.1); y <- c(2.0, 2.5, 5.0, 6.0, 0.5, 6.0, 9.9, 4.0)
spearman <- suppressWarnings(cor.test(x, y, method = "spearman", exact = FALSE))

cat(toJSON(list(shapiro = shapiro,
  welch = list(f = unname(welch$statistic), df2 = unname(welch$parameter[2]), p = welch$p.value),
  kruskal = list(h = unname(kw$statistic), p = kw$p.value),
  levene = list(f = levene[1, "F value"], p = levene[1, "Pr(>F)"]),
  brown = list(f = brown[1, "F value"], p = brown[1, "Pr(>F)"]),
  influence = influence,
  box_cox = list(lambda = bc$x[which.max(bc$y)], low = min(inside), high = max(inside)),
  spearman = list(x = x, y = y, rho = unname(spearman$estimate), p = spearman$p.value)),
  digits = I(16), auto_unbox = TRUE, na = "string"), "\n")
