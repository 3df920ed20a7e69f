# What R reads from tables as people have them: encodings, line ends, separators, quotes, '#', markers of missing values,
# one number in several spellings. Our reader must find the same rows, levels and numbers.
# Run in this folder: Rscript csv_readers.R > csv_readers.json   (also writes csv/*.csv, but for tiny_scale.csv, which is given)
suppressMessages(library(jsonlite))
dir.create("csv", showWarnings = FALSE)

# --- files ---------------------------------------------------------------------------------------------------------------
rows <- c("farbe,rate,y", "gr\u00fcn,1e-4,0.51", "gr\u00fcn,3e-4,0.62", "blau,1e-4,0.48", "blau,3e-4,0.57", "gr\u00fcn,1e-4,0.53",
          "gr\u00fcn,3e-4,0.66", "blau,1e-4,0.44", "blau,3e-4,0.59")
bytes_of <- function(lines, encoding = "UTF-8", end = "\n", mark = raw(0))
  c(mark, iconv(paste0(paste(lines, collapse = end), end), "UTF-8", encoding, toRaw = TRUE)[[1]])
write_bytes <- function(bytes, name) writeBin(bytes, file.path("csv", name))
write_bytes(bytes_of(rows), "utf8.csv")
write_bytes(bytes_of(rows, mark = as.raw(c(0xef, 0xbb, 0xbf))), "utf8_mark.csv")
write_bytes(bytes_of(rows, "UTF-16LE", mark = as.raw(c(0xff, 0xfe))), "utf16le_mark.csv")
write_bytes(bytes_of(rows, "UTF-16BE", mark = as.raw(c(0xfe, 0xff))), "utf16be_mark.csv")
write_bytes(bytes_of(rows, "UTF-16LE"), "utf16le.csv")
write_bytes(bytes_of(rows, "UTF-32LE", mark = as.raw(c(0xff, 0xfe, 0, 0))), "utf32le_mark.csv")
write_bytes(bytes_of(rows, "UTF-32BE", mark = as.raw(c(0, 0, 0xfe, 0xff))), "utf32be_mark.csv")
write_bytes(bytes_of(rows, "UTF-32LE"), "utf32le.csv")
write_bytes(bytes_of(rows, "UTF-32BE"), "utf32be.csv")
write_bytes(bytes_of(rows, "latin1"), "latin1.csv")
write_bytes(bytes_of(rows, end = "\r\n"), "crlf.csv")
write_bytes(bytes_of(rows, end = "\r"), "cr.csv")
write_bytes(bytes_of(c("sep=;", gsub(",", ";", rows))), "sep_line.csv")
write_bytes(bytes_of(gsub(",", "\t", rows)), "tabs.csv")
write_bytes(bytes_of(c("\"farbe\",\"rate\",\"y\"", "\"gr\u00fcn, hell\",\"1e-4\",\"0.51\"", "\"say \"\"blau\"\"\",1e-4,0.48",
                       "\"gr\u00fcn, hell\",3e-4,0.62", "\"say \"\"blau\"\"\",3e-4,\"0.57\"", "\"gr\u00fcn, hell\",1e-4,0.53",
                       "\"say \"\"blau\"\"\",1e-4,0.44")), "quotes.csv")
write_bytes(bytes_of(c("colour,rate,y", "#ff0000,a,1.0", "#ff0000,b,1.4", "#00ff00,a,2.1", "#00ff00,b,2.2", "#ff0000,a,1.1",
                       "#ff0000,b,1.6", "#00ff00,a,2.4", "#00ff00,b,2.0")), "hash_levels.csv")
write_bytes(bytes_of(c("act,rate,y", "relu,a,1.0", "NA,b,1.4", "silu,a,2.1", "silu,N/A,2.3", "relu,b,NaN", ",a,1.2", "silu,b,2.2",
                       "relu,b,1.3", "relu,a,", "silu,a,2.0")), "missing.csv")
write_bytes(bytes_of(c("rate,y", "1e-4,0.2576", "0.0001,0.0133", "1E-04,0.31", "0.00010,0.11", "3e-4,0.5899", "0.0003,0.1471",
                       "3.0E-4,0.2", "0.00030,0.44")), "spellings.csv")

# --- what R makes of them ------------------------------------------------------------------------------------------------
missing <- c("", "NA", "N/A", "NaN")
read_as <- function(name, encoding = "UTF-8", skip = 0, sep = ",") {
  path <- file.path("csv", name)
  text <- iconv(list(readBin(path, "raw", file.size(path))), encoding, "UTF-8")
  text <- sub("^\ufeff", "", text)
  lines <- strsplit(text, "\r\n|\r|\n")[[1]]
  read.table(text = lines[(skip + 1):length(lines)], sep = sep, header = TRUE, quote = "\"", comment.char = "", na.strings = missing,
             colClasses = "character", check.names = FALSE, strip.white = TRUE)
}
# Per factor its levels with count and mean, over the rows that have everything.
describe <- function(name, data, factors, encoding = NULL, numbers = character(0), scale = 1) {
  for (f in numbers) data[[f]] <- as.character(as.numeric(data[[f]]))  # one number, one level
  y <- as.numeric(data$y)
  used <- complete.cases(data[factors]) & !is.na(y)
  levels <- lapply(factors, function(f) {
    g <- data[[f]][used]
    lapply(sort(unique(g), method = "radix"), function(level) list(level = level, n = sum(g == level), mean = mean(y[used][g == level])))
  })
  names(levels) <- factors
  frame <- data.frame(lapply(data[used, factors, drop = FALSE], factor), y = y[used] * scale, check.names = FALSE)
  fit <- anova(lm(as.formula(paste("y ~", paste0("`", factors, "`", collapse = " + "))), frame))
  list(file = paste0("csv/", name), encoding = if (is.null(encoding)) "" else encoding, factors = I(factors), numbers = I(numbers),
       rows = nrow(data), used = sum(used), levels = levels, last_f = fit[length(factors), "F value"],
       last_p = fit[length(factors), "Pr(>F)"])
}
two <- c("farbe", "rate")
cases <- list(
  describe("utf8.csv", read_as("utf8.csv"), two),
  describe("utf8_mark.csv", read_as("utf8_mark.csv"), two),
  describe("utf16le_mark.csv", read_as("utf16le_mark.csv", "UTF-16LE"), two),
  describe("utf16be_mark.csv", read_as("utf16be_mark.csv", "UTF-16BE"), two),
  describe("utf16le.csv", read_as("utf16le.csv", "UTF-16LE"), two),
  describe("utf32le_mark.csv", read_as("utf32le_mark.csv", "UTF-32LE"), two),
  describe("utf32be_mark.csv", read_as("utf32be_mark.csv", "UTF-32BE"), two),
  describe("utf32le.csv", read_as("utf32le.csv", "UTF-32LE"), two),
  describe("utf32be.csv", read_as("utf32be.csv", "UTF-32BE"), two),
  describe("latin1.csv", read_as("latin1.csv", "latin1"), two, encoding = "latin1"),
  describe("crlf.csv", read_as("crlf.csv"), two),
  describe("cr.csv", read_as("cr.csv"), two),
  describe("sep_line.csv", read_as("sep_line.csv", skip = 1, sep = ";"), two),
  describe("tabs.csv", read_as("tabs.csv", sep = "\t"), two),
  describe("quotes.csv", read_as("quotes.csv"), two),
  describe("hash_levels.csv", read_as("hash_levels.csv"), c("colour", "rate")),
  describe("missing.csv", read_as("missing.csv"), c("act", "rate")),
  describe("spellings.csv", read_as("spellings.csv"), "rate", numbers = "rate"),
  describe("tiny_scale.csv", read_as("tiny_scale.csv"), "g", scale = 1e160))
cat(toJSON(cases, digits = NA, auto_unbox = TRUE, pretty = TRUE), "\n")
