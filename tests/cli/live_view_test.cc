// `loupe watch` on a real terminal, against real processes.
#include <signal.h>

#include <algorithm>
#include <fstream>

#include "fmt/format.h"
#include "tests/cli/up_fixture.h"

namespace loupe::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kEnter[] = "\x1b[?1049h";
constexpr char kLeave[] = "\x1b[?25h\x1b[?1049l";

class LiveViewTest : public UpTest {
 protected:
  static std::vector<std::string> Watch(const std::string& sweep) { return {"watch", sweep, "--data", Data()}; }
  static std::string Program() { return folder_->path() + "/loupe"; }

  // The child of `loupe up` that is one.
  static pid_t Coordinator() {
    int up = 0, child = 0;
    std::ifstream(Data() + "/up.pid") >> up;
    std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", up));
    while (children >> child) {
      std::string name;
      std::ifstream(fmt::format("/proc/{}/comm", child)) >> name;
      // The kernel keeps 15 characters of a name.
      if (name == "loupe-coordinat") return child;
    }
    ADD_FAILURE() << "no coordinator among the children of " << up;
    return 0;
  }

  // A sweep that runs for longer than any test.
  static void SubmitLong(const std::string& name) {
    std::string text = kSweep;
    text.replace(text.find("replicates: 2"), 13, "replicates: 9999");
    ASSERT_EQ(Loupe({"submit", SweepFile(name, text)}).exit_code, 0);
  }
};

TEST_F(LiveViewTest, CtrlCGivesTheTerminalBack) {
  SubmitLong("interrupted");
  TerminalProcess watch(Program(), Watch("interrupted"));
  ASSERT_TRUE(watch.Await(kEnter)) << watch.output();
  ASSERT_TRUE(watch.Await("Running: 2")) << watch.output();
  EXPECT_FALSE(watch.Echoes());
  watch.Type("\x03");
  EXPECT_EQ(watch.Wait(), 130);
  // What stays is outside the alternate screen.
  EXPECT_THAT(watch.output().substr(watch.output().rfind(kLeave)),
              ::testing::AllOf(HasSubstr("interrupted"), HasSubstr("the sweep goes on")));
  EXPECT_EQ(Loupe({"cancel", "interrupted"}).exit_code, 0);
}

TEST_F(LiveViewTest, LinesAreWholeToTheirLastColumn) {
  SubmitLong("whole-lines");
  TerminalProcess watch(Program(), Watch("whole-lines"));
  // The time left ends at the right edge, and nothing is cleared behind it. (The terminal's driver adds a return.)
  ASSERT_TRUE(watch.Await(" left\r\r\n\x1b[K")) << watch.output();
  watch.Type("q");
  EXPECT_EQ(watch.Wait(), 130);
  EXPECT_EQ(Loupe({"cancel", "whole-lines"}).exit_code, 0);
}

TEST_F(LiveViewTest, AnotherSizeAndAStoppedProgramAreDrawnAgain) {
  SubmitLong("resized");
  TerminalProcess watch(Program(), Watch("resized"));
  ASSERT_TRUE(watch.Await("Running: 2")) << watch.output();
  watch.Resize(100, 12);
  // As many lines as the screen has, from its corner to the footer.
  int64_t lines = 0;
  while (lines != 12 && watch.Await("\x1b[H")) {
    const size_t begin = watch.output().rfind("\x1b[H");
    ASSERT_TRUE(watch.Await("the sweep goes on")) << watch.output();
    const std::string frame = watch.output().substr(begin);
    lines = 1 + std::count(frame.begin(), frame.end(), '\n');
  }
  EXPECT_EQ(lines, 12);
  // Ctrl-Z: what was there comes back; and `fg`.
  watch.Type("\x1a");
  ASSERT_TRUE(watch.Await(kLeave)) << watch.output();
  watch.Continue();
  ASSERT_TRUE(watch.Await(kEnter)) << watch.output();
  ASSERT_TRUE(watch.Await("Running: 2")) << watch.output();
  EXPECT_FALSE(watch.Echoes());
  watch.Type("q");
  EXPECT_EQ(watch.Wait(), 130);
  EXPECT_EQ(Loupe({"cancel", "resized"}).exit_code, 0);
}

TEST_F(LiveViewTest, CoordinatorThatComesBackIsWaitedFor) {
  SubmitLong("restarted");
  TerminalProcess watch(Program(), Watch("restarted"));
  ASSERT_TRUE(watch.Await("Running: 2")) << watch.output();
  ASSERT_EQ(kill(Coordinator(), SIGKILL), 0);
  ASSERT_TRUE(watch.Await("lost the coordinator")) << watch.output();
  ASSERT_TRUE(watch.Await("Running: 2")) << watch.output();
  watch.Type("q");
  EXPECT_EQ(watch.Wait(), 130);
  EXPECT_EQ(Loupe({"cancel", "restarted"}).exit_code, 0);
}

TEST_F(LiveViewTest, EndLeavesASummary) {
  TerminalProcess watch(Program(), {"submit", SweepFile("ended-live"), "--watch", "--data", Data()});
  EXPECT_EQ(watch.Wait(), 0);
  const std::string after = watch.output().substr(watch.output().rfind(kLeave));
  EXPECT_THAT(after, HasSubstr("16 of 16 trials (100 %)"));
  EXPECT_THAT(after, HasSubstr("by input (down) and output"));
  EXPECT_THAT(after, HasSubstr("Best cells"));
  EXPECT_TRUE(watch.Echoes());
}

TEST_F(LiveViewTest, DumbTerminalGetsPlainLines) {
  ASSERT_EQ(Loupe({"submit", SweepFile("dumb"), "--watch"}).exit_code, 0);
  TerminalProcess watch(Program(), Watch("dumb"), {{"TERM", "dumb"}});
  EXPECT_EQ(watch.Wait(), 0);
  EXPECT_EQ(watch.output().find('\x1b'), std::string::npos) << watch.output();
  EXPECT_THAT(watch.output(), HasSubstr("dumb: 16 of 16 done (100 %)"));
}

TEST_F(LiveViewTest, NoSuchSweepIsASentence) {
  TerminalProcess watch(Program(), Watch("nothing"));
  EXPECT_EQ(watch.Wait(), 1);
  EXPECT_THAT(watch.output(), HasSubstr("nothing"));
  EXPECT_EQ(watch.output().find('\x1b'), std::string::npos) << "no screen was taken";
}

}  // namespace
}  // namespace loupe::cli
