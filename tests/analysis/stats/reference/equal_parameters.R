# Methods at an equal number of trained parameters, on nested.R's tables: the model of all trials (a method's own factors
# nested in it), and per method the mean of its settings whose parameters are within the budget, each with the same weight,
# as averages of rows of the model matrix. Parameters are made up by the rule below, which the test repeats.
# Run in this folder: Rscript equal_parameters.R > equal_parameters.json
suppressMessages(library(jsonlite))
parameters <- function(s) with(s, ifelse(method == "lora", 1000 * as.numeric(as.character(rank)) * ifelse(targets == "all", 2, 1),
  ifelse(method == "adapter", ifelse(activation == "silu", 18000, 14000), ifelse(method == "bitfit", 3000, 860000))))
case <- function(file, block, budget, tolerance, baseline) {
  d <- read.csv(file, colClasses = "character", na.strings = NULL)
  d$y <- as.numeric(d$y)
  nested <- c("activation", "scale", "rank", "targets")
  for (f in setdiff(names(d), "y")) d[[f]] <- factor(ifelse(d[[f]] == "", "-", d[[f]]))
  fit <- lm(as.formula(paste("y ~", paste(c(block, "method", nested), collapse = " + "))), d)
  b <- coef(fit); kept <- !is.na(b); v <- vcov(fit)[names(b)[kept], names(b)[kept]]
  s <- unique(d[c("method", nested)])
  s$parameters <- suppressWarnings(parameters(s))
  chosen <- s[abs(s$parameters / budget - 1) <= tolerance, ]
  row_of <- function(setting) {
    g <- if (length(block)) merge(setting, setNames(data.frame(factor(levels(d[[block]]))), block), by = NULL) else setting
    colMeans(model.matrix(delete.response(terms(fit)), g, xlev = fit$xlevels))[kept]
  }
  methods <- sort(unique(as.character(chosen$method)))
  rows <- lapply(setNames(nm = methods), function(m) {
    own <- chosen[chosen$method == m, ]
    Reduce(`+`, lapply(seq_len(nrow(own)), function(i) row_of(own[i, ]))) / nrow(own)
  })
  estimate <- function(l) list(value = sum(l * b[kept]), std_error = sqrt(drop(t(l) %*% v %*% l)))
  contrasts <- do.call(rbind, lapply(methods[-1], function(m) rows[[m]] - rows[[methods[1]]]))
  k <- contrasts %*% b[kept]
  f <- drop(t(k) %*% solve(contrasts %*% v %*% t(contrasts)) %*% k) / nrow(contrasts)
  list(file = file, block = if (length(block)) block else "", budget = budget, tolerance = tolerance, baseline = baseline,
       equal_df = nrow(contrasts), equal_f = f,
       methods = unname(lapply(methods, function(m) c(list(method = m, settings = sum(chosen$method == m),
         least = min(chosen$parameters[chosen$method == m]), most = max(chosen$parameters[chosen$method == m])), estimate(rows[[m]])))),
       with_baseline = unname(lapply(setdiff(methods, baseline), function(m) {
         e <- estimate(rows[[m]] - rows[[baseline]])
         c(list(method = m, p = 2 * pt(-abs(e$value / e$std_error), df.residual(fit))), e)
       })))
}
cat(toJSON(list(
  case("nested_unbalanced.csv", character(0), 16000, .25, "adapter"),
  case("nested_unbalanced.csv", character(0), 12000, .35, "lora"),
  case("nested_blocks.csv", "replicate", 12000, .35, "adapter"),
  case("nested_blocks.csv", "replicate", 3000, .4, "bitfit")), auto_unbox = TRUE, digits = NA, pretty = TRUE))
