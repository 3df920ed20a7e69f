#include "cli/completion.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_split.h"
#include "cli/connect.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

using Candidate = Completions::Candidate;
using Paths = Completions::Paths;

// What an option or a positional takes, by its name. What is missing takes numbers or free text.
enum class Value { kSweep, kTrial, kArtifact, kWorker, kFile, kFolder };
constexpr std::pair<std::string_view, Value> kValues[] = {
    {"sweep", Value::kSweep},      {"with", Value::kSweep},        {"compare", Value::kSweep},
    {"trial", Value::kTrial},      {"artifact", Value::kArtifact}, {"worker", Value::kWorker},
    {"file", Value::kFile},        {"output", Value::kFile},       {"write", Value::kFile},
    {"credentials", Value::kFile}, {"token-file", Value::kFile},   {"ca-file", Value::kFile},
    {"cert-file", Value::kFile},   {"key-file", Value::kFile},     {"data", Value::kFolder},
    {"to", Value::kFolder},        {"from", Value::kFolder},       {"out", Value::kFolder},
    {"backup-to", Value::kFolder}};

std::string NameOf(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_single_name() : option.get_lnames().front();
}

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// "TEXT:{text,json}" -> text, json: the words of CLI11's IsMember.
std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return absl::StrSplit(type.substr(open + 1, close - open - 1), ',');
}

// Where the words have led so far.
class Position {
 public:
  explicit Position(const CLI::App& app) : root_(app), command_(&app) { AddConnectOptions(connect_, unused_); }

  void Take(const std::string& word) {
    if (open_ != nullptr && !word.starts_with("--")) {
      // An option of several values takes all that follow, as the parser does.
      if (open_->get_items_expected_max() <= 1) open_ = nullptr;
      return;
    }
    open_ = nullptr;
    if (word.size() > 1 && word.front() == '-') {
      const CLI::Option* option = Find(word.substr(0, word.find('=')));
      if (option != nullptr && TakesValue(*option) && word.find('=') == std::string::npos) open_ = option;
      return;
    }
    for (const CLI::App* sub : command_->get_subcommands([](const CLI::App*) { return true; })) {
      if (sub->get_name() != word) continue;
      command_ = sub;
      return;
    }
    positionals_.push_back(word);
  }

  // "--format" or "-o", of the command or, before one, of the connection.
  const CLI::Option* Find(const std::string& name) const {
    const CLI::Option* option = command_->get_option_no_throw(name);
    return option == nullptr && command_ == &root_ ? connect_.get_option_no_throw(name) : option;
  }

  std::vector<const CLI::Option*> Options() const {
    std::vector<const CLI::Option*> options = command_->get_options();
    if (command_ == &root_) {
      for (const CLI::Option* option : connect_.get_options()) {
        if (option->get_single_name() != "help") options.push_back(option);
      }
    }
    return options;
  }

  // The positional whose turn it is; null where there is none.
  const CLI::Option* Positional() const {
    size_t at = 0;
    for (const CLI::Option* option : command_->get_options()) {
      if (!option->get_positional()) continue;
      if (at++ == positionals_.size() || option->get_items_expected_max() > 1) return option;
    }
    return nullptr;
  }

  const CLI::App& command() const { return *command_; }
  const CLI::Option* open() const { return open_; }
  std::string positional(size_t at) const { return at < positionals_.size() ? positionals_[at] : ""; }

 private:
  const CLI::App& root_;
  CLI::App connect_;
  ConnectFlags unused_;
  const CLI::App* command_;
  const CLI::Option* open_ = nullptr;
  std::vector<std::string> positionals_;
};

void AddNames(const std::vector<std::string>& names, Completions& completions) {
  for (const std::string& name : names) completions.candidates.push_back({name, ""});
}

void AddValues(const CLI::Option& option, const Position& position, NameSource& names, Completions& completions) {
  AddNames(ChoicesOf(option), completions);
  const std::string name = NameOf(option);
  for (const auto& [known, value] : kValues) {
    if (name != known) continue;
    switch (value) {
      case Value::kSweep:
        return AddNames(names.Sweeps(), completions);
      case Value::kTrial:
        return AddNames(names.Trials(position.positional(0)), completions);
      case Value::kArtifact:
        return AddNames(names.Artifacts(position.positional(0), position.positional(1)), completions);
      case Value::kWorker:
        return AddNames(names.Workers(), completions);
      case Value::kFile:
        completions.paths = Paths::kFiles;
        return;
      case Value::kFolder:
        completions.paths = Paths::kFolders;
        return;
    }
  }
}

void AddOptions(const Position& position, Completions& completions) {
  for (const CLI::Option* option : position.Options()) {
    if (option->get_group().empty()) continue;
    for (const std::string& name : option->get_lnames())
      completions.candidates.push_back({"--" + name, option->get_description()});
  }
}

}  // namespace

Completions Complete(const CLI::App& app, std::vector<std::string> words, NameSource& names) {
  if (words.empty()) words.emplace_back();
  if (words.back() == "=") words.back() = "";
  std::string current = std::move(words.back());
  words.pop_back();
  std::erase(words, "=");
  Position position(app);
  bool options_ended = false;
  for (const std::string& word : words) {
    options_ended = options_ended || word == "--";
    if (word != "--") position.Take(word);
  }
  Completions completions;
  const CLI::Option* option = position.open();
  std::string front;
  if (const size_t equals = current.find('='); current.starts_with("--") && equals != std::string::npos) {
    option = position.Find(current.substr(0, equals));
    front = current.substr(0, equals + 1);
    if (option == nullptr) return {};
    AddValues(*option, position, names, completions);
    for (Candidate& candidate : completions.candidates) candidate.text.insert(0, front);
  } else if (current.starts_with('-') && !options_ended) {
    AddOptions(position, completions);
  } else if (option != nullptr) {
    AddValues(*option, position, names, completions);
  } else {
    for (const CLI::App* sub : position.command().get_subcommands([](const CLI::App*) { return true; })) {
      if (!sub->get_group().empty()) completions.candidates.push_back({sub->get_name(), sub->get_description()});
    }
    if (const CLI::Option* positional = position.Positional(); positional != nullptr)
      AddValues(*positional, position, names, completions);
  }
  std::erase_if(completions.candidates,
                [&](const Candidate& candidate) { return !candidate.text.starts_with(current); });
  return completions;
}

std::string CompletionLines(const Completions& completions) {
  std::string text = completions.paths == Paths::kFiles     ? "files\n"
                     : completions.paths == Paths::kFolders ? "folders\n"
                                                            : "none\n";
  for (const Candidate& candidate : completions.candidates)
    text += fmt::format("{}\t{}\n", Printable(candidate.text), Printable(candidate.description));
  return text;
}

std::string CompletionScript(const std::string& shell) {
  if (shell == "bash") {
    return R"(# bash completion of loupe: source it, or save it as /etc/bash_completion.d/loupe
_loupe() {
  local IFS=$'\n' line kind
  local -a lines
  mapfile -t lines < <("${1/#\~/$HOME}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  kind=${lines[0]}
  COMPREPLY=()
  for line in "${lines[@]:1}"; do COMPREPLY+=("${line%%$'\t'*}"); done
  case $kind in
    files) compopt -o filenames; COMPREPLY+=($(compgen -f -- "$2")) ;;
    folders) compopt -o filenames; COMPREPLY+=($(compgen -d -- "$2")) ;;
  esac
}
complete -F _loupe loupe
)";
  }
  if (shell == "zsh") {
    return R"(#compdef loupe
# zsh completion of loupe: save it as _loupe in a folder of $fpath, or source it after compinit
_loupe() {
  local -a lines names
  local line kind
  lines=("${(@f)$(${(Q)words[1]} __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  kind=$lines[1]
  shift lines
  for line in $lines; do names+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}"); done
  (( $#names )) && _describe loupe names
  case $kind in
    files) _files ;;
    folders) _files -/ ;;
  esac
}
# Loaded by its name at the first tab, or sourced.
if [[ $funcstack[1] == _loupe ]]; then _loupe "$@"; else compdef _loupe loupe; fi
)";
  }
  return R"(# fish completion of loupe: save it as ~/.config/fish/completions/loupe.fish
function __loupe_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    switch "$lines[1]"
        case files
            __fish_complete_path "$current"
        case folders
            __fish_complete_directories "$current"
    end
    test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
end
complete -c loupe -f -a '(__loupe_complete)'
)";
}

}  // namespace loupe::cli
