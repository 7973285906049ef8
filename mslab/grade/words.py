"""Chinese texts of grading's pages, added to the report's. The keys are the English texts in the templates.

Requirements, findings and fixes of items are in zh.py.
"""

from dataclasses import replace
from typing import Any

from mslab.config.language import translated
from mslab.grade import zh
from mslab.grade.records import Outcome
from mslab.report.translation import CHINESE as REPORT

CHINESE = REPORT | {
    "Total: {points} of {total} points": "总分：{points} / {total} 分",
    "Your teacher has {open} more points to award; they are not counted yet.": (
        "另有 {open} 分由教师评定，目前尚未计入。"
    ),
    "Item": "项目",
    "Points": "得分",
    "Result": "结果",
    "Total": "总分",
    "full points": "满分",
    "part of the points": "部分得分",
    "no points": "未得分",
    "open": "待定",
    "open: your teacher fills this in": "待定：由教师评定",
    "{points} of {most}": "{points} / {most}",
    "open, of {most}": "待定，满分 {most}",
    "Deduction": "扣分",
    "Deductions never make the total negative.": "总分不会低于 0。",
    "Findings": "检查结果",
    "Found": "发现",
    "How to fix it": "如何改进",
    "Checked": "检查内容",
    "SHA-256 of the graded submission: {sha}.": "所评阅提交的 sha256 为 {sha}。",
    "{n} submissions": "{n} 份提交",
    "Mean {mean}, median {median}, from {lowest} to {highest}, of {total} points.": (
        "平均 {mean}，中位数 {median}，最低 {lowest}，最高 {highest}，满分 {total} 分。"
    ),
    "Nothing was graded.": "没有评阅任何提交。",
    "Points that you award yourself are not included yet.": "手工评定的分数尚未计入。",
    "Totals": "总分",
    "How the totals are distributed": "总分分布",
    "{low} to {high} points: {n}": "{low} 至 {high} 分：{n}",
    "points": "分",
    "The numbers of the chart": "图表数据",
    "from": "从",
    "to": "至",
    "submissions": "提交",
    "Items": "评分项",
    "mean": "平均",
    "of": "满分",
    "Confusion matrix of the class": "全班混淆矩阵",
    "Row: true class. Column: predicted class, summed over all submissions. Blue: correct.": (
        "行：真实类别。列：网络判断的类别，所有提交合计。蓝色为正确。"
    ),
    "{right} of {images} answers are correct ({share} %).": "{images} 个判断中 {right} 个正确（{share} %）。",
    "Pairs to look at": "可疑的相似提交",
    "Please check these pairs yourself: they never cost points automatically.": "请人工判断：相似本身从不影响得分。",
    "No two submissions are alike.": "没有相似的提交。",
    "likeness": "相似度",
    "evidence": "依据",
    "last year": "去年",
    "Submissions": "提交",
    "Sorted by name; each link opens the student's page.": "按名称排序；点击可打开学生看到的页面。",
    "submission": "提交",
    "total": "总分",
    "deductions": "扣分",
    "flags": "提示",
}


def shown(item: Any, text: str, lang: str) -> str:
    """A text about an item, as a page in this language shows it; a title that the rubric gives stays as it is."""
    tables = (zh.ITEMS[item.kind], zh.NETWORK, zh.WORTH, zh.ANY)
    return "\n".join(translated(line, *tables, lang=lang) for line in text.split("\n"))


def shown_outcome(item: Any, outcome: Outcome, lang: str) -> Outcome:
    """An item's outcome in this language."""
    return replace(outcome, said=shown(item, outcome.said, lang), fix=shown(item, outcome.fix, lang))
