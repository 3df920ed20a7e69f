#include "cli/live_screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string_view>

namespace loupe::cli {
namespace {

// xterm's alternate screen, cursor off, lines that are too long cut instead of wrapped; and back.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l";

// For the handler of Ctrl-Z, which can reach nothing but globals.
bool keyboard_changed = false;
termios keyboard_before{};
termios keyboard_raw{};
std::atomic<bool> was_left = false;

// All of it, whatever signals come between; what cannot be written is not shown.
void WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

// Only functions that POSIX lets a handler call.
void OnStop(int) {
  const int saved = errno;
  WriteAll(kLeave);
  if (keyboard_changed) tcsetattr(STDIN_FILENO, TCSANOW, &keyboard_before);
  raise(SIGSTOP);
  if (keyboard_changed) tcsetattr(STDIN_FILENO, TCSANOW, &keyboard_raw);
  WriteAll(kEnter);
  was_left = true;
  errno = saved;
}

}  // namespace

TerminalKind KindOfTerminal(bool is_terminal, const char* term, const char* no_color) {
  TerminalKind kind;
  const std::string_view name = term == nullptr ? "" : term;
  kind.live = is_terminal && !name.empty() && name != "dumb";
  kind.colours = kind.live && (no_color == nullptr || *no_color == '\0');
  return kind;
}

TerminalKind KindOfOutput() {
  return KindOfTerminal(isatty(STDOUT_FILENO) == 1, std::getenv("TERM"), std::getenv("NO_COLOR"));
}

void LiveScreen::Open() {
  open_ = true;
  has_keys_ = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &keyboard_before) == 0;
  if (has_keys_) {
    keyboard_raw = keyboard_before;
    keyboard_raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    // Ctrl-\\ would end the program with the terminal as it is.
    keyboard_raw.c_cc[VQUIT] = _POSIX_VDISABLE;
    has_keys_ = tcsetattr(STDIN_FILENO, TCSANOW, &keyboard_raw) == 0;
  }
  keyboard_changed = has_keys_;
  struct sigaction action {};
  action.sa_handler = &OnStop;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTSTP, &action, nullptr);
  WriteAll(kEnter);
}

LiveScreen::~LiveScreen() {
  if (!open_) return;
  signal(SIGTSTP, SIG_DFL);
  WriteAll(kLeave);
  if (has_keys_) tcsetattr(STDIN_FILENO, TCSANOW, &keyboard_before);
  keyboard_changed = false;
}

LiveScreen::Size LiveScreen::OutputSize() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {.columns = size.ws_col, .lines = size.ws_row};
}

void LiveScreen::Draw(const std::vector<StyledLine>& lines) {
  if (!open_) Open();
  // In one piece, so that nobody sees a line that is cleared and not yet written (ECMA-48 CUP, EL, ED). A line is
  // cleared first: at the end of one that fills the screen the cursor stands on its last character.
  std::string text = "\x1b[H";
  for (size_t i = 0; i < lines.size(); ++i)
    text += (i == 0 ? "\x1b[K" : "\r\n\x1b[K") + (colours_ ? lines[i].Coloured() : lines[i].Plain());
  if (static_cast<int>(lines.size()) < OutputSize().lines) text += "\r\n\x1b[J";
  WriteAll(text);
}

LiveScreen::Key LiveScreen::WaitForKey(absl::Duration time) {
  Key key;
  pollfd input{.fd = has_keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
  const bool pressed = poll(&input, 1, static_cast<int>(absl::ToInt64Milliseconds(time))) == 1;
  // With the keyboard gone, asking again would not wait.
  if (pressed && read(STDIN_FILENO, &key.character, 1) != 1) has_keys_ = false;
  key.redraw = was_left.exchange(false);
  return key;
}

}  // namespace loupe::cli
