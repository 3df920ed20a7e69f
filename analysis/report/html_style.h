// The page's style sheet: Okabe–Ito colours (told apart with every common colour vision), dark mode, print.
#pragma once

namespace loupe::analysis::report {

extern const char kReportStyle[];

}  // namespace loupe::analysis::report
