# Adjusted means, differences, simple effects and contrasts of incomplete designs from R's emmeans (1.8.4): what is not
# estimable there must not be estimable here, and all other numbers must agree.
# Run in this folder: Rscript emmeans.R > emmeans.json   (also writes paper_design.csv, min_pairs.csv, emm_*.csv)
suppressMessages({library(emmeans); library(jsonlite)})
emm_options(msg.nesting = FALSE)

# --- data sets -------------------------------------------------------------------------------------------------------------
pairs_of <- c("SA_in SA_in", "SA_in CA_in", "SA_in FFN_in", "SA_in Trans_out", "SA_out CA_in", "SA_out FFN_in",
  "SA_out Trans_out", "CA_in CA_in", "CA_in FFN_in", "CA_in Trans_out", "CA_c CA_c", "CA_out FFN_in", "CA_out Trans_out",
  "FFN_in FFN_in", "FFN_in Trans_out", "FFN_out Trans_out", "Trans_out Trans_out", "Res_in Res_in", "Res_in Res_out",
  "Res_out Res_out")
write_csv <- function(data, name) write.csv(data, name, row.names = FALSE, quote = FALSE)
set.seed(1204)
# The paper's 20 legal pairs x 4 activations x 4 scales x 3 replicates, effects of every factor.
paper <- expand.grid(pair = pairs_of, activation = c("relu", "sigmoid", "silu", "identity"), scale = c("0.5", "1", "2", "4"),
                     rep = 1:3, stringsAsFactors = FALSE)
paper$input <- sub(" .*", "", paper$pair)
paper$output <- sub(".* ", "", paper$pair)
ie <- c(SA_in = 0, SA_out = .02, CA_in = .01, CA_c = .05, CA_out = .06, FFN_in = .02, FFN_out = .01, Trans_out = -.01, Res_in = -.03,
        Res_out = -.04)
paper$y <- round(0.8 + ie[paper$input] + 0.03 * (paper$output == "FFN_in") + 0.01 * (paper$activation == "silu") +
                 0.01 * paper$rep + rnorm(nrow(paper), sd = 0.02), 4)
write_csv(paper[c("input", "output", "activation", "scale", "rep", "y")], "paper_design.csv")
write_csv(paper[paper$rep != 2 | seq_len(nrow(paper)) %% 5 != 0, c("input", "output", "activation", "scale", "rep", "y")],
          "paper_unbalanced.csv")
# No effect of a at all, levels of b that meet only one a.
write_csv(data.frame(a = rep(c("a1", "a1", "a2", "a2"), each = 2), b = rep(c("x", "y", "x", "z"), each = 2),
                     y = c(.1, -.1, 10.1, 9.9, .1, -.1, .1, -.1)), "min_pairs.csv")
# Three factors, one cell of a x b empty, unequal numbers.
d <- expand.grid(a = c("a1", "a2", "a3"), b = c("b1", "b2", "b3"), c = c("c1", "c2"), k = 1:4, stringsAsFactors = FALSE)
d <- d[!(d$a == "a3" & d$b == "b3"), ]
d <- d[sort(sample(nrow(d), 50)), ]
d$y <- round(2 + (d$a == "a2") + 3 * (d$b == "b3") + (d$a == "a3") * (d$b == "b2") + .5 * (d$c == "c2") + rnorm(nrow(d)), 3)
write_csv(d[c("a", "b", "c", "y")], "empty_cell.csv")
# A fraction: half of a 2^5, each once, and two treatments per block of three.
f <- expand.grid(A = c("-1", "+1"), B = c("-1", "+1"), C = c("-1", "+1"), D = c("-1", "+1"), stringsAsFactors = FALSE)
sign <- function(x) ifelse(x == "+1", 1, -1)
f$E <- ifelse(sign(f$A) * sign(f$B) * sign(f$C) * sign(f$D) > 0, "+1", "-1")
f$y <- round(10 + sign(f$A) - 2 * sign(f$C) + sign(f$A) * sign(f$B) + rnorm(16, sd = .4), 3)
write_csv(f[c("A", "B", "C", "D", "E", "y")], "half_fraction.csv")
bib <- data.frame(block = rep(paste0("B", 1:6), each = 2), treatment = c("t1", "t2", "t1", "t3", "t1", "t4", "t2", "t3", "t2", "t4", "t3", "t4"))
bib <- rbind(bib, bib)
bib$y <- round(5 + c(t1 = 0, t2 = 1, t3 = 1.5, t4 = .2)[bib$treatment] + as.numeric(factor(bib$block)) + rnorm(24, sd = .3), 3)
write_csv(bib, "incomplete_blocks.csv")
# Two halves of a design that never meet.
h <- rbind(expand.grid(lr = c("1e-4", "3e-4", "1e-3"), model = c("small", "base"), k = 1:3),
           expand.grid(lr = c("1e-5", "3e-5"), model = c("large", "huge"), k = 1:3))
h$y <- round(1 + .2 * as.numeric(factor(h$lr)) + .4 * as.numeric(factor(h$model)) + rnorm(nrow(h), sd = .2), 3)
write_csv(h[c("lr", "model", "y")], "two_halves.csv")

# --- reference numbers ---------------------------------------------------------------------------------------------------
read <- function(file, factors) {
  data <- read.csv(file, stringsAsFactors = FALSE, colClasses = "character")
  if ("len" %in% names(data)) data$y <- data$len
  data$y <- as.numeric(data$y)
  for (x in factors) data[[x]] <- factor(data[[x]])
  data
}
numbers <- function(x) ifelse(is.na(x), NaN, x)
keyed <- function(frame, of) apply(frame[of], 1, function(row) paste(trimws(as.character(row)), collapse = ", "))
difference_frame <- function(em, by = NULL) {
  out <- function(adjust) as.data.frame(summary(pairs(em, by = by), adjust = adjust, infer = c(TRUE, TRUE)))
  none <- out("none"); tukey <- out("tukey")
  # In the order of the levels: 1 - 2, 1 - 3, ...
  list(estimate = I(numbers(none$estimate)), se = I(numbers(none$SE)), p = I(numbers(none$p.value)),
       p_tukey = I(numbers(tukey$p.value)))
}
case <- function(name, file, factors, formula, of, contrasts = list(), within = NULL) {
  data <- read(file, factors)
  fit <- lm(as.formula(paste("y ~", formula)), data)
  out <- list(name = name, file = file, factors = factors, formula = formula, means = list(), contrasts = list(), within = list())
  for (x in of) {
    em <- emmeans(fit, x, nesting = NULL)
    frame <- as.data.frame(summary(em))
    out$means[[x]] <- list(level = as.character(frame[[x]]), mean = numbers(frame$emmean), se = numbers(frame$SE),
                           pairs = difference_frame(em))
  }
  for (text in names(contrasts)) {
    em <- emmeans(fit, contrasts[[text]]$of, nesting = NULL)
    frame <- as.data.frame(summary(em))
    weight <- contrasts[[text]]$weights
    key <- keyed(frame, contrasts[[text]]$of)
    stopifnot(all(names(weight) %in% key))
    w <- ifelse(key %in% names(weight), weight[key], 0)
    r <- as.data.frame(summary(contrast(em, list(c = w)), infer = c(TRUE, TRUE)))
    out$contrasts[[text]] <- list(estimate = numbers(r$estimate), se = numbers(r$SE), p = numbers(r$p.value),
                                  low = numbers(r[[5]]), high = numbers(r[[6]]))
  }
  for (text in within) {
    sides <- strsplit(text, " | ", fixed = TRUE)[[1]]
    em <- emmeans(fit, sides[1], by = sides[2], nesting = NULL)
    frame <- as.data.frame(summary(pairs(em), adjust = "none"))
    tukey <- as.data.frame(summary(pairs(em), adjust = "tukey"))
    # joint_tests stops where nothing at all is estimable at some level; then there is no reference for the F tests.
    joint <- tryCatch({ j <- as.data.frame(joint_tests(fit, by = sides[2])); j[j[["model term"]] == sides[1], ] },
                      error = function(e) data.frame())
    out$within[[text]] <- list(levels = levels(data[[sides[1]]]), within = as.character(frame[[sides[2]]]),
      estimate = numbers(frame$estimate), se = numbers(frame$SE), p = numbers(frame$p.value), p_tukey = numbers(tukey$p.value),
      joint = list(level = I(as.character(joint[[sides[2]]])), df = I(as.numeric(joint$df1)), f = I(as.numeric(joint$F.ratio)), p = I(as.numeric(joint$p.value))))
  }
  out
}
weights <- function(of, w) list(of = of, weights = w)
p <- c("input", "output", "activation", "scale", "rep")
cases <- list(
  case("20 legal pairs, main effects", "paper_design.csv", p, "rep + input + output + activation + scale", p[1:4],
       list("[input=SA_in] - [input=CA_in]" = weights("input", c(SA_in = 1, CA_in = -1)),
            "([input=SA_in] + [input=SA_out])/2 - [input=FFN_in]" = weights("input", c(SA_in = .5, SA_out = .5, FFN_in = -1)),
            "[input=SA_in] - [input=Res_in]" = weights("input", c(SA_in = 1, Res_in = -1)))),
  case("20 legal pairs with input:output", "paper_design.csv", p, "rep + input * output + activation + scale", p[1:4],
       list("[input=SA_in, output=FFN_in] - [input=CA_in, output=FFN_in]" =
              weights(c("input", "output"), c("SA_in, FFN_in" = 1, "CA_in, FFN_in" = -1)),
            "[input=SA_in, output=FFN_in]" = weights(c("input", "output"), c("SA_in, FFN_in" = 1)),
            "[input=SA_in, output=Res_in]" = weights(c("input", "output"), c("SA_in, Res_in" = 1))),
       c("input | output", "output | input")),
  case("20 legal pairs with input:activation, unbalanced", "paper_unbalanced.csv", p, "rep + input * activation + output + scale",
       p[1:4], list(), c("input | activation", "activation | input")),
  case("levels that meet once", "min_pairs.csv", c("a", "b"), "a + b", c("a", "b")),
  case("one empty cell, additive", "empty_cell.csv", c("a", "b", "c"), "a + b + c", c("a", "b", "c"),
       list("[a=a3, b=b3] - [a=a1, b=b1]" = weights(c("a", "b"), c("a3, b3" = 1, "a1, b1" = -1)))),
  case("one empty cell, a:b", "empty_cell.csv", c("a", "b", "c"), "a * b + c", c("a", "b", "c"), list(), c("a | b", "b | a")),
  case("one empty cell, all pairs of factors", "empty_cell.csv", c("a", "b", "c"), "(a + b + c)^2", c("a", "b", "c"), list(),
       c("a | c", "c | a")),
  case("half fraction", "half_fraction.csv", c("A", "B", "C", "D", "E"), "A * B + C + D + E", c("A", "B", "C", "D", "E"),
       list("[A=+1,B=+1] - [A=-1,B=+1]" = weights(c("A", "B"), c("+1, +1" = 1, "-1, +1" = -1))), c("A | B")),
  case("incomplete blocks", "incomplete_blocks.csv", c("treatment", "block"), "block + treatment", "treatment",
       list("[treatment=t2] - 1/3*([treatment=t1] + [treatment=t3] + [treatment=t4])" =
              weights("treatment", c(t1 = -1/3, t2 = 1, t3 = -1/3, t4 = -1/3)))),
  case("two halves that never meet", "two_halves.csv", c("lr", "model"), "lr + model", c("lr", "model"), list(), "lr | model"),
  case("two halves with lr:model", "two_halves.csv", c("lr", "model"), "lr * model", c("lr", "model"), list(),
       c("lr | model", "model | lr")),
  case("unequal numbers, all cells filled", "tooth_unbalanced.csv", c("supp", "dose"), "supp * dose", c("supp", "dose"), list(),
       c("supp | dose")))
cat(toJSON(cases, digits = I(16), auto_unbox = TRUE, na = "null"), "\n")
