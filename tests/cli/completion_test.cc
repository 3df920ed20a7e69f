#include "cli/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "cli/commands.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "tests/cli/process.h"

namespace loupe::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class FakeNames : public NameSource {
 public:
  std::vector<std::string> Sweeps() override { return {"cats", "cats-2", "dogs"}; }
  std::vector<std::string> Trials(const std::string& sweep) override {
    return sweep == "cats" ? std::vector<std::string>{"0", "1", "12"} : std::vector<std::string>{};
  }
  std::vector<std::string> Artifacts(const std::string& sweep, const std::string& trial) override {
    return {fmt::format("{}-{}.png", sweep, trial)};
  }
  std::vector<std::string> Workers() override { return {"gpu-1"}; }
};

class CompletionTest : public ::testing::Test {
 protected:
  CompletionTest() {
    AddPlanCommand(app_, exit_code_);
    AddWatchCommand(app_, exit_code_);
    AddSweepCommands(app_, exit_code_);
    AddTrialCommands(app_, exit_code_);
    AddWorkerCommands(app_, exit_code_);
    AddReportCommand(app_, exit_code_);
    AddDataCommands(app_, exit_code_);
  }

  Completions At(const std::vector<std::string>& words) { return Complete(app_, words, names_); }
  std::vector<std::string> Texts(const std::vector<std::string>& words) {
    std::vector<std::string> texts;
    for (const Completions::Candidate& candidate : At(words).candidates) texts.push_back(candidate.text);
    return texts;
  }

  CLI::App app_{"Loupe", "loupe"};
  int exit_code_ = 0;
  FakeNames names_;
};

TEST_F(CompletionTest, CommandsComeFirst) {
  EXPECT_THAT(Texts({"wa"}), ElementsAre("watch"));
  EXPECT_THAT(Texts({"--address", "host:1", "wat"}), ElementsAre("watch"));
  EXPECT_THAT(At({"watch"}).candidates[0].description, HasSubstr("Follow"));
}

TEST_F(CompletionTest, NamesComeFromTheCoordinator) {
  EXPECT_THAT(Texts({"watch", "ca"}), ElementsAre("cats", "cats-2"));
  EXPECT_THAT(Texts({"trial", "cats", "1"}), ElementsAre("1", "12"));
  EXPECT_THAT(Texts({"download", "cats", "1", ""}), ElementsAre("cats-1.png"));
  EXPECT_THAT(Texts({"drain", ""}), ElementsAre("gpu-1"));
  EXPECT_THAT(Texts({"report", "cats", "--compare", "d"}), ElementsAre("dogs"));
  EXPECT_THAT(Texts({"watch", "cats", ""}), IsEmpty());
}

TEST_F(CompletionTest, OptionsAndTheirValues) {
  EXPECT_THAT(Texts({"watch", "--qu"}), ElementsAre("--quiet-seconds"));
  EXPECT_THAT(Texts({"watch", "--format", ""}), ElementsAre("text", "json"));
  EXPECT_THAT(Texts({"watch", "--format=j"}), ElementsAre("--format=json"));
  // As bash splits it.
  EXPECT_THAT(Texts({"watch", "--format", "=", "j"}), ElementsAre("json"));
  EXPECT_THAT(Texts({"watch", "--format", "="}), ElementsAre("text", "json"));
  // An option's value is no positional.
  EXPECT_THAT(Texts({"watch", "--patience", "5", "do"}), ElementsAre("dogs"));
  EXPECT_THAT(Texts({"watch", "--format=json", "do"}), ElementsAre("dogs"));
  EXPECT_THAT(Texts({"--adr"}), IsEmpty());
  EXPECT_THAT(Texts({"--addr"}), ElementsAre("--address"));
}

TEST_F(CompletionTest, PathsAreTheShells) {
  EXPECT_EQ(At({"plan", ""}).paths, Completions::Paths::kFiles);
  EXPECT_EQ(At({"plan", "--token-file", ""}).paths, Completions::Paths::kFiles);
  EXPECT_EQ(At({"backup", "--to", ""}).paths, Completions::Paths::kFolders);
  EXPECT_EQ(At({"watch", ""}).paths, Completions::Paths::kNone);
}

TEST_F(CompletionTest, NothingUnknownThrows) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{},
                                                                                     {"="},
                                                                                     {"no", "such"},
                                                                                     {"--no=such"},
                                                                                     {"watch", "--no=such"},
                                                                                     {"watch", "--"},
                                                                                     {"watch", "--", "-"},
                                                                                     {"-"},
                                                                                     {"trial", "\xff", ""}}) {
    EXPECT_NO_THROW(At(words)) << fmt::format("{}", fmt::join(words, " "));
  }
  EXPECT_THAT(CompletionLines({{{"a\nb", "c\td"}}, Completions::Paths::kFiles}), "files\na\\nb\tc\\td\n");
}

// Whether a program of another package is here. `./test --all` sets it up, and nothing is skipped then.
bool IsInstalled(const std::string& program) {
  const bool installed = std::filesystem::exists(program);
  EXPECT_TRUE(installed || std::getenv("LOUPE_ALL") == nullptr) << program;
  return installed;
}

// What a shell offers, by its own machinery.
class ShellTest : public ::testing::Test {
 protected:
  // The text that `script` prints, in which `loupe` is the command, and $folder a folder with its completion in it.
  std::string Run(const std::string& shell, const std::string& file, const std::string& script) {
    const std::string program = "/usr/bin/" + shell;
    const std::string completion = RunProcess(LOUPE_BINARY, {"completion", shell}).out;
    folder_.Write(file, completion);
    folder_.Write("sweep.yaml", "");
    folder_.Write("run", script);
    std::error_code error;
    std::filesystem::create_symlink(LOUPE_BINARY, folder_.path() + "/loupe", error);
    const ProcessResult result = RunProcess(
        program, {folder_.path() + "/run"}, folder_.path(),
        {{"PATH", folder_.path() + ":/usr/bin:/bin"}, {"HOME", folder_.path()}, {"LOUPE_ADDRESS", "127.0.0.1:1"}});
    EXPECT_EQ(result.err, "");
    return result.out;
  }

  TemporaryFolder folder_;
};

TEST_F(ShellTest, BashOffersCommandsOptionsAndFiles) {
  // $2 of a completion function is the word that is typed, $1 the command.
  const std::string out = Run("bash", "completion.bash", R"(
source ./completion.bash
ask() { COMP_WORDS=(loupe "$@"); COMP_CWORD=$#; _loupe loupe "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null; echo "${COMPREPLY[*]}"; }
ask wat
ask watch --format ''
ask watch --format = j
ask plan sw
ask watch c
complete -p loupe
)");
  EXPECT_EQ(out, "watch\ntext json\njson\nsweep.yaml\n\ncomplete -F _loupe loupe\n");
}

TEST_F(ShellTest, ZshOffersCommandsAndDescriptions) {
  if (!IsInstalled("/usr/bin/zsh")) GTEST_SKIP() << "no zsh";
  // A terminal of its own, since zsh completes for nobody else.
  const std::string out = Run("zsh", "_loupe", R"(
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1='>'; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; LISTMAX=1000; echo rea''dy"
zpty -r z out '*ready*'
zpty -w -n z $'loupe watch --format \t\t'
zpty -r z out '*text*'
print -r -- $out | tr -d '\r'
zpty -d z
)");
  EXPECT_THAT(out, AllOf(HasSubstr("text"), HasSubstr("json")));
}

TEST_F(ShellTest, FishOffersCommandsAndDescriptions) {
  if (!IsInstalled("/usr/bin/fish")) GTEST_SKIP() << "no fish";
  const std::string out = Run("fish", "loupe.fish", R"(
source loupe.fish
complete -C 'loupe wat'
complete -C 'loupe watch --format '
complete -C 'loupe plan sw'
)");
  EXPECT_THAT(out, AllOf(StartsWith("watch\t"), HasSubstr("\ntext\n"), HasSubstr("\njson\n"), HasSubstr("sweep.yaml")));
}

TEST(CompletionCommandTest, WithoutACoordinatorThereAreNoNames) {
  const ProcessResult result = RunProcess(LOUPE_BINARY, {"__complete", "--address", "127.0.0.1:1", "watch", ""});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "none\n");
  EXPECT_EQ(result.err, "");
}

class ManPageTest : public ::testing::Test {
 protected:
  static std::string Page() { return RunProcess(LOUPE_BINARY, {"man"}, "", {{"SOURCE_DATE_EPOCH", "1700000000"}}).out; }
};

TEST_F(ManPageTest, HasEveryCommandAndOption) {
  const std::string page = Page();
  EXPECT_THAT(page, StartsWith(".TH \"loupe\" 1 2023-11-14 \"loupe 0.1.0\" Loupe\n.ad l\n.SH NAME\nloupe \\- plans"));
  EXPECT_THAT(page,
              AllOf(HasSubstr(".SS \"loupe watch [options] sweep\"\nFollow a sweep to its end.\n"),
                    HasSubstr("\\fB\\-\\-quiet\\-seconds\\fR \\fIFLOAT\\fR\n"), HasSubstr(".SH \"EXIT STATUS\"")));
  EXPECT_EQ(page.find("__complete"), std::string::npos);
}

TEST_F(ManPageTest, IsRoffWithoutAWarning) {
  const TemporaryFolder folder;
  const std::string page = folder.Write("loupe.1", Page());
  if (IsInstalled("/usr/bin/mandoc")) {
    const ProcessResult lint = RunProcess("/usr/bin/mandoc", {"-T", "lint", "-W", "warning", page});
    EXPECT_EQ(lint.out + lint.err, "");
  }
  if (!std::filesystem::exists("/usr/bin/groff")) GTEST_SKIP() << "no groff";
  const ProcessResult groff = RunProcess("/usr/bin/groff", {"-man", "-K", "utf8", "-T", "utf8", "-ww", "-z", page});
  EXPECT_EQ(groff.out + groff.err, "");
}

TEST(OpenTest, PrintsTheAddressOfThePage) {
  const TemporaryFolder folder;
  folder.Write("http_address", "http://127.0.0.1:7118\n");
  const auto open = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "open");
    arguments.insert(arguments.end(), {"--data", folder.path()});
    return RunProcess(LOUPE_BINARY, arguments, folder.path(), {{"DISPLAY", ""}, {"WAYLAND_DISPLAY", ""}});
  };
  EXPECT_EQ(open({"--print"}).out, "http://127.0.0.1:7118/\n");
  EXPECT_EQ(open({"cats"}).out, "http://127.0.0.1:7118/#/sweeps/cats\n");
  EXPECT_EQ(open({"cats", "7"}).out, "http://127.0.0.1:7118/#/sweeps/cats/trials/7\n");
  EXPECT_EQ(open({"cats", "--page", "https://host/", "--print"}).out, "https://host/#/sweeps/cats\n");
  EXPECT_EQ(open({"no such name"}).exit_code, 2);
  // Another machine's coordinator has another page.
  folder.Write("address", "127.0.0.1:7117\n");
  const ProcessResult other = open({"--address", "10.0.0.1:7117"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("--page"));
}

TEST(OpenTest, ADisplayGetsABrowser) {
  const TemporaryFolder folder;
  folder.Write("http_address", "http://127.0.0.1:7118\n");
  ASSERT_EQ(mkfifo((folder.path() + "/opened").c_str(), 0600), 0);
  const std::string opener = folder.Write("xdg-open", "#!/bin/sh\necho \"$1\" \"token:$LOUPE_TOKEN\" > opened\n");
  std::filesystem::permissions(opener, std::filesystem::perms::owner_all);
  const auto with = [&](const std::string& path) {
    return RunProcess(LOUPE_BINARY, {"open", "cats", "--data", folder.path()}, folder.path(),
                      {{"DISPLAY", ":0"}, {"PATH", path}, {"LOUPE_TOKEN", "secret"}});
  };
  EXPECT_EQ(with(folder.path() + ":/bin").exit_code, 0);
  std::string opened;
  std::getline(std::ifstream(folder.path() + "/opened"), opened);
  EXPECT_EQ(opened, "http://127.0.0.1:7118/#/sweeps/cats token:") << "a browser is not given the command's token";
  const ProcessResult without = with("/nowhere");
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_THAT(without.err, HasSubstr("by hand"));
}

}  // namespace
}  // namespace loupe::cli
