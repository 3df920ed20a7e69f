// The terminal behind standard output as a screen that is drawn anew, and its keyboard.
#pragma once

#include <termios.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cli/styled_line.h"

namespace loupe::cli {

// What a terminal is good for.
struct TerminalKind {
  // Its cursor can be moved: it is one, and TERM is neither missing nor "dumb".
  bool live = false;
  // And NO_COLOR is not set (no-color.org: to anything but the empty text).
  bool colours = false;
};

// Of the environment's variables; null where one is not set.
TerminalKind KindOfTerminal(bool is_terminal, const char* term, const char* no_color);
// Of standard output.
TerminalKind KindOfOutput();

// From the first Draw on the terminal shows its alternate screen, without a cursor, and gives keys as they are pressed:
// not before there is something to show, so that an error that comes first is a line of its own. The destructor gives
// back what was there before, and so does Ctrl-Z until the program goes on. One at a time; one thread.
// Signals that end the program must be caught (InterruptWatch), or the terminal stays as it is.
class LiveScreen {
 public:
  explicit LiveScreen(bool colours) : colours_(colours) {}
  ~LiveScreen();
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  struct Size {
    int columns = 80;
    int lines = 24;
  };
  // As it is now: it may change at any time.
  static Size OutputSize();

  // In place of what was there.
  void Draw(const std::vector<StyledLine>& lines);

  // The next key, if one is pressed within `time`; 0 where none is, and where standard input is no terminal. A screen
  // that was left meanwhile (Ctrl-Z) is empty, and is to be drawn again.
  struct Key {
    char character = 0;
    bool redraw = false;
  };
  Key WaitForKey(absl::Duration time);

 private:
  void Open();

  const bool colours_;
  bool open_ = false;
  bool has_keys_ = false;
};

}  // namespace loupe::cli
