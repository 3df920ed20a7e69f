# Sweeps over methods: each method has factors of its own. F by comparing nested models (y ~ task + method + rank + …, where
# a factor is "-" for the methods that do not have it, so that lm drops what is aliased with the method), means and
# differences as averages of rows of the model matrix, and by emmeans where all of a method's settings occur.
# Run in this folder: Rscript nested.R > nested.json   (also writes nested_*.csv)
suppressMessages({library(emmeans); library(jsonlite); library(mvtnorm)})
emm_options(msg.nesting = FALSE)
set.seed(1509)

# --- designs -------------------------------------------------------------------------------------------------------------
lora <- expand.grid(method = "lora", rank = c("4", "16", "64"), targets = c("attention", "all"), stringsAsFactors = FALSE)
adapter <- expand.grid(method = "adapter", activation = c("relu", "silu"), scale = c("1", "2"), stringsAsFactors = FALSE)
other <- data.frame(method = c("bitfit", "full"), stringsAsFactors = FALSE)
bind <- function(...) {
  parts <- list(...)
  all <- unique(unlist(lapply(parts, names)))
  do.call(rbind, lapply(parts, function(p) { p[setdiff(all, names(p))] <- "-"; p[all] }))
}
cross <- function(cells, ...) merge(cells, expand.grid(..., stringsAsFactors = FALSE), by = NULL)
truth <- function(d) {
  effect <- c(adapter = .02, lora = .05, bitfit = -.03, full = .06)[d$method]
  own <- c("-" = 0, "4" = -.01, "16" = .01, "64" = .015)[d$rank] + c("-" = 0, attention = -.01, all = .01)[d$targets]
  if (!is.null(d$activation)) own <- own + c("-" = 0, relu = -.01, silu = .01)[d$activation] + c("-" = 0, "1" = 0, "2" = .02)[d$scale]
  if (!is.null(d$input)) own <- own + .01 * as.numeric(factor(d$input)) - .005 * as.numeric(factor(d$output))
  task <- if (is.null(d$task)) 0 else (d$task == "dog") * (.03 + .02 * (d$method == "lora"))
  rate <- if (is.null(d$rate)) 0 else .01 * as.numeric(factor(d$rate))
  0.7 + effect + own + task + rate
}
finish <- function(d, sd = .02) {
  d$y <- round(truth(d) + rnorm(nrow(d), sd = sd), 4)
  d[sample(nrow(d)), ]
}
balanced <- finish(cross(bind(adapter, lora, other), k = 1:3))
unbalanced <- finish(cross(bind(adapter, lora, other), k = 1:4))[1:33, ]
crossed <- finish(cross(bind(adapter, lora, other), task = c("cat", "dog"), rate = c("1e-4", "3e-4")))
uneven <- finish(cross(bind(adapter, lora, other), task = c("cat", "dog"), rate = c("1e-4", "3e-4")))[1:37, ]
blocks <- finish(cross(bind(adapter, lora, other), replicate = c("0", "1", "2")))
blocks$y <- blocks$y + c("0" = 0, "1" = .05, "2" = -.04)[blocks$replicate]
blocks <- blocks[-c(3, 8, 20), ]
# Positions: six legal pairs that fall into two groups which never meet.
pairs <- data.frame(method = "adapter", input = c("SA_in", "SA_in", "CA_in", "CA_in", "Res_in", "Res_in"),
                    output = c("FFN_in", "Trans_out", "FFN_in", "Trans_out", "Res_in", "Res_out"), stringsAsFactors = FALSE)
positions <- finish(cross(bind(pairs, lora, other[2, , drop = FALSE]), k = 1:2))
save <- function(d, name) {
  d[d == "-"] <- ""
  d$k <- NULL
  write.csv(d, name, row.names = FALSE, quote = FALSE)
}

# --- numbers -------------------------------------------------------------------------------------------------------------
levels_of <- function(x) { x <- unique(x); n <- suppressWarnings(as.numeric(x)); if (anyNA(n[x != "-"])) sort(x) else x[order(n)] }
case <- function(name, d, own, common = character(0), block = NULL, interaction = NULL, grid = TRUE) {
  file <- paste0("nested_", name, ".csv")
  save(d, file)
  nested <- unlist(own)
  for (f in c("method", nested, common, block)) d[[f]] <- factor(d[[f]], levels = levels_of(d[[f]]))
  terms <- c(block, common, "method", interaction, nested)
  model <- function(t) lm(as.formula(paste("y ~", paste(c("1", t), collapse = " + "))), d)
  fit <- model(terms)
  ms <- deviance(fit) / df.residual(fit)
  # Type II: after all terms that do not contain it; nested terms contain the method.
  f_test <- function(term) {
    before <- if (term == "method") c(block, common) else if (!is.null(interaction) && term == interaction) c(block, common, "method", nested)
              else if (!is.null(interaction) && term %in% strsplit(interaction, ":")[[1]]) setdiff(terms, c(term, interaction)) else setdiff(terms, term)
    small <- model(before); large <- model(c(before, term))
    df <- small$df.residual - large$df.residual
    ss <- deviance(small) - deviance(large)
    list(term = term, df = df, sum_sq = ss, f = ss / df / ms, p = pf(ss / df / ms, df, df.residual(fit), lower.tail = FALSE))
  }
  # Rows of the model at the settings of a method that occur, the rest of the factors averaged over all their levels.
  b <- coef(fit); kept <- !is.na(b); v <- vcov(fit)[names(b)[kept], names(b)[kept]]
  row_of <- function(method, fixed = list()) {
    s <- unique(d[d$method == method, nested, drop = FALSE])
    for (f in names(fixed)) if (f %in% nested) s <- s[as.character(s[[f]]) == fixed[[f]], , drop = FALSE]
    rest <- lapply(setNames(nm = c(common, block)), function(f) if (!is.null(fixed[[f]])) factor(fixed[[f]], levels(d[[f]])) else factor(levels(d[[f]]), levels(d[[f]])))
    g <- merge(merge(s, data.frame(method = factor(method, levels(d$method))), by = NULL), if (length(rest)) expand.grid(rest) else data.frame(dummy = 1), by = NULL)
    x <- model.matrix(delete.response(terms(fit)), g, xlev = fit$xlevels)
    colMeans(x)[kept]
  }
  estimate <- function(l) list(value = sum(l * b[kept]), std_error = sqrt(drop(t(l) %*% v %*% l)))
  methods <- levels(d$method)
  rows <- lapply(setNames(nm = methods), row_of)
  means <- lapply(methods, function(m) c(list(level = m), estimate(rows[[m]])))
  # F of all means being equal.
  l <- t(sapply(methods[-1], function(m) rows[[m]] - rows[[methods[1]]]))
  q <- qr(l)
  value <- l %*% b[kept]
  equal <- drop(t(value) %*% solve(l %*% v %*% t(l), value)) / nrow(l)
  df <- df.residual(fit)
  against <- function(m, ref) { e <- estimate(rows[[m]] - rows[[ref]]); t <- e$value / e$std_error
    c(list(first = m, second = ref), e, list(p = 2 * pt(-abs(t), df))) }
  baseline <- lapply(methods[-1], against, ref = methods[1])
  holm <- p.adjust(sapply(baseline, function(x) x$p), "holm")
  correlation <- cov2cor(l %*% v %*% t(l))
  for (i in seq_along(baseline)) {
    baseline[[i]]$p_holm <- holm[i]
    t <- abs(baseline[[i]]$value / baseline[[i]]$std_error)
    baseline[[i]]$p_dunnett <- 1 - pmvt(lower = rep(-t, nrow(l)), upper = rep(t, nrow(l)), df = df, corr = correlation,
                                        algorithm = GenzBretz(maxpts = 2e6, abseps = 1e-7))[1]
  }
  own_means <- list()
  for (m in names(own)) for (f in own[[m]]) for (level in setdiff(levels(d[[f]]), "-")) {
    l1 <- row_of(m, setNames(list(level), f))
    first <- setdiff(levels(d[[f]]), "-")[1]
    step <- estimate(l1 - row_of(m, setNames(list(first), f)))
    own_means[[length(own_means) + 1]] <- c(list(factor = f, level = level), estimate(l1), list(less_first = step$value, less_first_error = step$std_error))
  }
  if (grid) {  # every combination of a method's settings occurs: emmeans averages over the same
    e <- as.data.frame(emmeans(fit, "method", nesting = lapply(setNames(nm = nested), function(f) "method")))
    stopifnot(all.equal(e$emmean, sapply(means, function(x) x$value), tolerance = 1e-10), all.equal(e$SE, sapply(means, function(x) x$std_error), tolerance = 1e-8))
  }
  list(name = name, file = file, factors = I(c(common, "method", nested)), block = if (is.null(block)) "" else block,
       formula = if (is.null(interaction)) "" else paste(setdiff(terms, block), collapse = " + "),
       terms = lapply(setdiff(terms, block), f_test), residual_df = df, residual_mean_sq = ms, means = means, equal_f = equal,
       equal_df = nrow(l), baseline = baseline, own_means = own_means)
}
both <- list(adapter = c("activation", "scale"), lora = c("rank", "targets"))
cat(toJSON(list(
  case("balanced", balanced, both),
  case("unbalanced", unbalanced, both),
  case("crossed", crossed, both, c("task", "rate")),
  case("interaction", crossed, both, c("task", "rate"), interaction = "method:task"),
  case("uneven", uneven, both, c("task", "rate")),
  case("blocks", blocks, both, block = "replicate"),
  case("positions", positions, list(adapter = c("input", "output"), lora = c("rank", "targets")), grid = FALSE)),
  digits = NA, auto_unbox = TRUE, pretty = TRUE), "\n")
