#include "common/man_page.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fmt/format.h"

namespace loupe {
namespace {

// Text as roff takes it literally: no line of it is a request, and a minus is the one that people type.
std::string Roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += "\\&";
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

// As an argument of a macro.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : Roff(text)) out += c == '"' ? std::string("\\(dq") : std::string(1, c);
  return out + "\"";
}

// "TEXT:{text,json}" -> "TEXT", "{text,json}"
std::pair<std::string, std::string> TypeOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t colon = type.find(':');
  return {type.substr(0, colon), colon == std::string::npos ? "" : type.substr(colon + 1)};
}

bool IsShown(const CLI::Option& option) { return !option.get_positional() && !option.get_group().empty(); }

std::string PositionalText(const CLI::Option& option) {
  const std::string name =
      option.get_items_expected_max() > 1 ? option.get_single_name() + " ..." : option.get_single_name();
  return option.get_required() ? name : "[" + name + "]";
}

// What stands behind its description: the values it takes, what it is without it.
std::string Restrictions(const CLI::Option& option) {
  const std::string values = TypeOf(option).second;
  std::string text;
  if (!values.empty()) text += fmt::format(" ({})", values);
  if (!option.get_default_str().empty()) text += fmt::format(" [default: {}]", option.get_default_str());
  return text;
}

void AppendOptions(std::string& page, const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    const bool positional = option->get_positional();
    if (!positional && !IsShown(*option)) continue;
    std::string names;
    for (const std::string& name : option->get_snames())
      names += fmt::format("{}\\fB\\-{}\\fR", names.empty() ? "" : ", ", name);
    for (const std::string& name : option->get_lnames())
      names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", Roff("--" + name));
    if (positional) names = fmt::format("\\fI{}\\fR", Roff(option->get_single_name()));
    const bool takes_value = !positional && option->get_items_expected_max() > 0;
    if (takes_value) names += fmt::format(" \\fI{}\\fR", Roff(TypeOf(*option).first));
    page += fmt::format(".TP\n{}\n{}\n", names, Roff(option->get_description() + Restrictions(*option)));
  }
}

// "plan [options] file"
std::string Synopsis(const CLI::App& command) {
  std::string text = command.get_name() + " [options]";
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) text += " " + PositionalText(*option);
  }
  return text;
}

void AppendCommands(std::string& page, const CLI::App& app, const std::string& before) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_group().empty() || command->get_name().empty()) continue;
    page += fmt::format(".SS {}\n", Quoted(before + " " + Synopsis(*command)));
    if (!command->get_description().empty()) page += Roff(command->get_description() + ".") + "\n";
    AppendOptions(page, *command);
    AppendCommands(page, *command, before + " " + command->get_name());
  }
}

// Paragraphs, those of several indented lines as they stand.
void AppendText(std::string& page, std::string_view text) {
  bool first = true;
  while (!text.empty()) {
    const size_t end = std::min(text.find("\n\n"), text.size());
    const std::string_view paragraph = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), end + 2));
    if (!first) page += ".PP\n";
    first = false;
    page += Roff(paragraph) + "\n";
  }
}

}  // namespace

std::string ManPage(const CLI::App& app, const ManPageText& text) {
  std::string page =
      fmt::format(".TH {} 1 {} {} Loupe\n", Quoted(text.name), text.date, Quoted("loupe " + text.version));
  // Without blanks stretched: an option's choices are one long word.
  page += ".ad l\n";
  page += fmt::format(".SH NAME\n{} \\- {}\n", Roff(text.name), Roff(text.summary));
  const bool has_commands = !app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); }).empty();
  page += fmt::format(".SH SYNOPSIS\n.B {}\n{}\n", Roff(text.name),
                      has_commands ? "\\fI[options] command\\fR ..." : "\\fI[options]\\fR");
  page += fmt::format(".SH DESCRIPTION\n{}\n", Roff(app.get_description()));
  page += ".SH OPTIONS\n";
  AppendOptions(page, app);
  if (has_commands) {
    page += ".SH COMMANDS\n";
    AppendCommands(page, app, text.name);
  }
  for (const auto& [title, paragraphs] : text.sections) {
    page += fmt::format(".SH {}\n", Quoted(title));
    AppendText(page, paragraphs);
  }
  return page;
}

std::string ManPageDate() {
  const char* epoch = std::getenv("SOURCE_DATE_EPOCH");
  int64_t seconds = 0;
  const bool given = epoch != nullptr && absl::SimpleAtoi(epoch, &seconds);
  return absl::FormatTime("%Y-%m-%d", given ? absl::FromUnixSeconds(seconds) : absl::Now(), absl::UTCTimeZone());
}

bool PrintedManPage(int argc, const char* const* argv, const CLI::App& app, ManPageText text) {
  if (argc != 2 || std::string_view(argv[1]) != "--man") return false;
  text.date = ManPageDate();
  const std::string page = ManPage(app, text);
  std::fwrite(page.data(), 1, page.size(), stdout);
  return true;
}

}  // namespace loupe
