# Reference tables of FitAnova: Type I by stats::anova, II and III by car::Anova, and, where cells are empty, by comparing
# the residual sums of squares of two nested lm fits. Run after data_sets.R: Rscript anova.R > anova.json
suppressMessages({library(car); library(jsonlite)})
options(contrasts = c("contr.sum", "contr.poly"), digits = 17)

read <- function(file, factors) {
  data <- read.csv(file, stringsAsFactors = FALSE)
  for (f in factors) data[[f]] <- factor(data[[f]])
  data
}

table_of <- function(tab, ss, residual = "Residuals") {
  rows <- rownames(tab)
  keep <- rows != residual & rows != "(Intercept)"
  list(terms = data.frame(term = trimws(rows[keep]), df = tab$Df[keep], sum_sq = tab[[ss]][keep],
                          f = tab[["F value"]][keep], p = tab[["Pr(>F)"]][keep]),
       residual = list(df = tab$Df[rows == residual], sum_sq = tab[[ss]][rows == residual]))
}

classic <- function(name, file, response, factors, formula, block = "") {
  data <- read(file, c(factors, if (block != "") block))
  rhs <- if (block == "") formula else paste(block, "+", formula)
  fit <- lm(as.formula(paste(response, "~", rhs)), data)
  one <- function(type) {
    tab <- if (type == 1) table_of(anova(fit), "Sum Sq") else table_of(Anova(fit, type = type), "Sum Sq")
    c(list(name = name, file = file, response = response, factors = factors, formula = formula, block = block,
           ss_type = type), tab)
  }
  lapply(1:3, one)
}

# Type II by nested fits: SS = RSS(without) - RSS(with), df from the ranks; `tests` maps a term to (without, with).
nested <- function(name, file, response, factors, formula, tests) {
  data <- read(file, factors)
  rss <- function(rhs) { fit <- lm(as.formula(paste(response, "~", rhs)), data); c(deviance(fit), df.residual(fit)) }
  full <- rss(formula)
  rows <- lapply(names(tests), function(term) {
    without <- rss(tests[[term]][1]); with <- rss(tests[[term]][2])
    df <- without[2] - with[2]; ss <- without[1] - with[1]
    f <- (ss / df) / (full[1] / full[2])
    data.frame(term = term, df = df, sum_sq = ss, f = f, p = pf(f, df, full[2], lower.tail = FALSE))
  })
  list(c(list(name = name, file = file, response = response, factors = factors, formula = formula, block = "", ss_type = 2),
         list(terms = do.call(rbind, rows), residual = list(df = full[2], sum_sq = full[1]))))
}

# A term without its margin: cells nested in the levels of the other factor; Type I only.
without_margin <- function(name, file, response, factors, formula) {
  data <- read(file, factors)
  fit <- lm(as.formula(paste(response, "~", formula)), data)
  list(c(list(name = name, file = file, response = response, factors = factors, formula = formula, block = "", ss_type = 1),
         table_of(anova(fit), "Sum Sq")))
}

cases <- c(
  without_margin("nested dose", "tooth_unbalanced.csv", "len", c("supp", "dose"), "supp + supp:dose"),
  without_margin("cells alone", "tooth_unbalanced.csv", "len", c("supp", "dose"), "supp:dose"),
  classic("warpbreaks", "warpbreaks.csv", "breaks", c("wool", "tension"), "wool*tension"),
  classic("tooth growth", "tooth_growth.csv", "len", c("supp", "dose"), "supp*dose"),
  classic("tooth growth, unbalanced", "tooth_unbalanced.csv", "len", c("supp", "dose"), "supp*dose"),
  classic("tooth growth, unbalanced, additive", "tooth_unbalanced.csv", "len", c("supp", "dose"), "supp+dose"),
  classic("npk in blocks", "npk.csv", "yield", c("N", "P", "K"), "N+P+K+N:P+N:K+P:K", block = "block"),
  nested("tooth growth, one empty cell", "tooth_empty_cell.csv", "len", c("supp", "dose"), "supp*dose",
         list(supp = c("dose", "supp+dose"), dose = c("supp", "supp+dose"), "supp:dose" = c("supp+dose", "supp*dose"))),
  nested("positions, main effects", "positions.csv", "score", c("input", "output", "activation", "seed"),
         "input+output+activation+seed",
         list(input = c("output+activation+seed", "input+output+activation+seed"),
              output = c("input+activation+seed", "input+output+activation+seed"),
              activation = c("input+output+seed", "input+output+activation+seed"),
              seed = c("input+output+activation", "input+output+activation+seed"))),
  nested("positions, interactions", "positions.csv", "score", c("input", "output", "activation"),
         "input*output + input*activation",
         list(input = c("output+activation", "input+output+activation"),
              output = c("input*activation", "input*activation+output"),
              activation = c("input*output", "input*output+activation"),
              "input:output" = c("input*activation+output", "input*output+input*activation"),
              "input:activation" = c("input*output+activation", "input*output+input*activation"))))
cat(toJSON(cases, digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
