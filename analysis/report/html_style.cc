#include "analysis/report/html_style.h"

namespace loupe::analysis::report {

// Series colours: Okabe & Ito (2008), "Color Universal Design"; lightened for a dark page where contrast asks.
const char kReportStyle[] = R"css(
:root{color-scheme:light dark;--bg:#fff;--panel:#f6f6f3;--ink:#1c1d1f;--soft:#5c6066;--rule:#d8d8d3;--grid:#e7e7e3;
--accent:#0072b2;--warn:#a34800;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b3589a;--s4:#b88000;--s5:#3a9bd0;--s6:#6b6b6b}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--panel:#1e2125;--ink:#e9e9e6;--soft:#a4a9b0;--rule:#3b4047;--grid:#2a2e33;
--accent:#62b8ef;--warn:#f0a35c;--s0:#62b8ef;--s1:#f28a3c;--s2:#2cc295;--s3:#dc93c4;--s4:#e8b23a;--s5:#9fd3f2;--s6:#b0b0b0}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1100px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:26px;line-height:1.2;margin:0 0 2px}
h2{font-size:19px;margin:44px 0 6px;padding-top:14px;border-top:1px solid var(--rule)}
h3{font-size:15px;margin:22px 0 6px}
p{margin:6px 0 12px;max-width:78ch}
.lead{color:var(--soft);margin:0 0 18px}
.soft,figcaption,caption{color:var(--soft)}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;margin:14px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:12px;margin:18px 0 6px}
.tile{background:var(--panel);border-radius:8px;padding:12px 14px}
.tile b{display:block;font-size:20px;line-height:1.25;overflow-wrap:anywhere}
.tile span{font-size:13px;color:var(--soft);display:block}
.note{border-left:3px solid var(--warn);background:var(--panel);padding:8px 12px;margin:10px 0;max-width:90ch}
.note ul{margin:0;padding-left:18px}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:14px;margin:8px 0 14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap;vertical-align:middle}
thead th{border-bottom:1px solid var(--ink);font-weight:600}
th:first-child,td:first-child,.l{text-align:left!important}
tbody th{font-weight:500}
td.wrap{white-space:normal;text-align:left;min-width:260px;max-width:520px;overflow-wrap:anywhere}
tr.resid td,tr.resid th{color:var(--soft)}
caption{text-align:left;font-size:13px;padding-bottom:4px}
.stars{color:var(--accent);padding-left:3px}
figure{margin:12px 0 18px}
figcaption{font-size:13px;max-width:84ch;margin-top:4px}
svg{max-width:100%;height:auto;display:block}
.panels{display:flex;flex-wrap:wrap;gap:14px 22px;align-items:flex-end}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--ink)}
svg .m{text-anchor:middle}svg .e{text-anchor:end}svg .q{fill:var(--soft)}svg .b{font-weight:600}svg .h{font-size:12px;font-weight:600}
svg .v{font-size:12px}svg .x{font-size:10px}
svg line,svg polyline,svg path{fill:none;stroke:var(--ink);stroke-width:1}
svg .axis{stroke:var(--soft)}svg .grid{stroke:var(--grid)}svg .ref{stroke:var(--soft);stroke-dasharray:4 4}
svg .base{stroke:var(--warn);stroke-dasharray:2 3;stroke-width:1.5}
svg .hatch{stroke:var(--rule);stroke-width:2}
svg rect.cell{stroke:var(--bg);stroke-width:1}
svg rect.blank{fill:var(--panel);stroke:var(--rule)}
svg rect.best{fill:none;stroke:var(--s1);stroke-width:3}
svg rect.bar{fill:var(--accent);stroke:none}svg rect.bar2{fill:var(--soft);stroke:none;opacity:.45}
svg .ci{stroke-width:1.6}
svg .raw{fill:var(--bg);stroke:var(--soft);stroke-width:1.3}
svg .dot{fill:var(--s0);stroke:none;opacity:.65}svg .dotw{fill:var(--s1);stroke:none}
svg .s0{stroke:var(--s0)}svg .s1{stroke:var(--s1)}svg .s2{stroke:var(--s2)}svg .s3{stroke:var(--s3)}svg .s4{stroke:var(--s4)}svg .s5{stroke:var(--s5)}svg .s6{stroke:var(--s6)}
svg .f0{fill:var(--s0);stroke:var(--s0)}svg .f1{fill:var(--s1);stroke:var(--s1)}svg .f2{fill:var(--s2);stroke:var(--s2)}svg .f3{fill:var(--s3);stroke:var(--s3)}svg .f4{fill:var(--s4);stroke:var(--s4)}svg .f5{fill:var(--s5);stroke:var(--s5)}svg .f6{fill:var(--s6);stroke:var(--s6)}
svg .dash{stroke-dasharray:6 3}svg .thin{stroke-width:.8;opacity:.28}svg .bold{stroke-width:2.2}
table.sheets{table-layout:fixed;font-size:12px}
table.sheets th,table.sheets td{text-align:center!important;border:1px solid var(--grid);padding:4px;white-space:normal;vertical-align:top}
table.sheets thead th{border-bottom:1px solid var(--rule)}
table.sheets td.illegal{background:repeating-linear-gradient(45deg,var(--panel) 0 5px,var(--bg) 5px 10px)}
table.sheets img{display:block;margin:0 auto 3px;width:132px;max-width:100%;height:auto;image-rendering:auto;border-radius:3px}
details{margin:8px 0}summary{cursor:pointer;color:var(--accent)}
pre{background:var(--panel);padding:12px;overflow-x:auto;font-size:12.5px;line-height:1.45;border-radius:6px}
code{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.93em;overflow-wrap:anywhere}
footer{margin-top:44px;border-top:1px solid var(--rule);padding-top:10px;font-size:13px;color:var(--soft)}
@media print{:root{--bg:#fff;--panel:#f4f4f1;--ink:#000;--soft:#444;--rule:#bbb;--grid:#ddd;--accent:#00507c;--warn:#7a3600;
--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b3589a;--s4:#b88000;--s5:#3a9bd0;--s6:#6b6b6b}
body{font-size:11pt}main{max-width:none;padding:0}nav{display:none}.wide{overflow:visible}table{font-size:9pt}h2{break-after:avoid}figure,table,.tile{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)css";

}  // namespace loupe::analysis::report
