"""Programs as data: what each library of the python image is for, done once, by the name it is installed under."""

from __future__ import annotations

from tests.engines.programs import Sample

LIBRARIES = {
    "altair": Sample(
        "import altair as alt, pandas as pd, json\n"
        "chart = alt.Chart(pd.DataFrame({'x': [1, 2], 'y': [3, 5]})).mark_bar().encode(x='x:O', y='y:Q')\n"
        "chart.save('outputs/chart.html')\n"
        "spec = json.loads(chart.to_json())\n"
        "print(spec['mark']['type'], spec['encoding']['y']['field'])\n"
        "print('vegaEmbed' in open('outputs/chart.html').read())",
        "bar y\nTrue\n",
    ),
    "e2b-charts": Sample(
        "import matplotlib.pyplot as plt\n"
        "from e2b_charts import chart_figure_to_dict\n"
        "figure, axes = plt.subplots(); axes.plot([1, 2], [3, 4])\n"
        "print(chart_figure_to_dict(figure)['elements'][0]['points'])",
        "[(1.0, 3.0), (2.0, 4.0)]\n",
    ),
    "beautifulsoup4": Sample(
        "from bs4 import BeautifulSoup\n"
        "for parser in ('html.parser', 'lxml'):\n"
        "    page = BeautifulSoup('<ul><li>a<li class=x>b &amp; c</ul>', parser)\n"
        "    print(page.select_one('li.x').get_text(strip=True), len(page.find_all('li')))",
        "b & c 2\nb & c 2\n",
    ),
    "ipython": Sample(
        "from IPython.core.inputtransformer2 import TransformerManager\n"
        "print(TransformerManager().transform_cell('x = 1').strip())",
        "x = 1\n",
    ),
    "jinja2": Sample(
        "from jinja2 import Environment\n"
        "page = Environment(autoescape=True).from_string('{% for n in names %}<b>{{ n|upper }}</b>{% endfor %}')\n"
        "print(page.render(names=['a', '<b>']))",
        "<b>A</b><b>&lt;B&gt;</b>\n",
    ),
    "lxml": Sample(
        "from lxml import etree, html\n"
        'tree = etree.fromstring(b\'<r><a n="1"/><a n="2"/></r>\')\n'
        "print(tree.xpath('sum(//a/@n)'), html.fromstring('<p>x<b>y</b></p>').text_content())\n"
        'style = etree.XSLT(etree.XML(\'<x:stylesheet version="1.0" xmlns:x="http://www.w3.org/1999/XSL/Transform">\'\n'
        '    \'<x:output method="text"/><x:template match="/">n=<x:value-of select="count(//a)"/></x:template>\'\n'
        "    '</x:stylesheet>'))\n"
        "print(style(tree))",
        "3.0 xy\nn=2\n",
    ),
    "networkx": Sample(
        "import networkx as nx\n"
        "g = nx.Graph(); g.add_weighted_edges_from([('a', 'b', 1), ('b', 'c', 2), ('a', 'c', 9)])\n"
        "print(nx.shortest_path(g, 'a', 'c', weight='weight'), round(sum(nx.pagerank(g).values()), 6))",
        "['a', 'b', 'c'] 1.0\n",
    ),
    "opencv-python-headless": Sample(
        "import cv2, numpy as np\n"
        "image = np.zeros((64, 64, 3), np.uint8); cv2.circle(image, (32, 32), 10, (0, 255, 0), -1)\n"
        "done, data = cv2.imencode('.png', image); back = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)\n"
        "found, _ = cv2.findContours(back, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)\n"
        "print(done, back.shape, len(found), cv2.GaussianBlur(np.ones((2000, 2000)), (9, 9), 0).mean())\n"
        "print(cv2.imwrite('outputs/circle.jpg', image))",
        "True (64, 64) 1 1.0\nTrue\n",
    ),
    "pip": Sample(
        "import subprocess, sys\nfrom pip._vendor.packaging.version import Version\n"
        "said = subprocess.run([sys.executable, '-m', 'pip', '--version'], capture_output=True, text=True).stdout\n"
        "print(said.startswith('pip '), Version('1.10') > Version('1.9'))",
        "True True\n",
    ),
    "plotly": Sample(
        "import plotly.graph_objects as go, plotly.express as px, json\n"
        "figure = px.scatter(x=[1, 2], y=[3, 4]); figure.add_trace(go.Bar(x=[1], y=[2]))\n"
        "figure.write_html('outputs/figure.html')\n"
        "print([t['type'] for t in json.loads(figure.to_json())['data']])\n"
        "page = open('outputs/figure.html').read(); print(len(page) > 1_000_000, 'Plotly.newPlot' in page)",
        "['scatter', 'bar']\nTrue True\n",
    ),
    "psutil": Sample(
        "import os, psutil\n"
        "me = psutil.Process()\n"
        "print(me.pid == os.getpid(), me.name(), me.memory_info().rss > 1_000_000, me.num_threads() >= 1)\n"
        "print(me.cpu_times().user >= 0, me.cmdline()[-1], me.username(), len(me.open_files()), me.cwd())\n"
        "print(psutil.cpu_count() > 0, psutil.virtual_memory().total > 0, psutil.disk_usage('/work').total > 0)\n"
        "print(me.pid in psutil.pids(), psutil.boot_time() > 0, isinstance(psutil.cpu_percent(0.01), float))\n"
        "print(psutil.net_io_counters(pernic=True).keys() <= {'lo'}, psutil.swap_memory().total >= 0)",
        "True python3 True True\nTrue main.py runner 0 /work\nTrue True True\nTrue True True\nTrue True\n",
    ),
    "pyarrow": Sample(
        "import pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc, pandas as pd\n"
        "table = pa.table({'n': list(range(100_000)), 's': ['a', 'b'] * 50_000})\n"
        "pq.write_table(table, 'outputs/t.parquet', compression='zstd')\n"
        "back = pq.read_table('outputs/t.parquet')\n"
        "print(back.equals(table), pc.sum(back['n']).as_py(), pa.total_allocated_bytes() > 0)\n"
        "print(pd.read_parquet('outputs/t.parquet').groupby('s')['n'].sum().to_dict())",
        "True 4999950000 True\n{'a': 2499950000, 'b': 2500000000}\n",
    ),
    "pypdf": Sample(
        "from pypdf import PdfReader, PdfWriter\n"
        "w = PdfWriter(); w.add_blank_page(100, 200); w.add_blank_page(100, 200); w.encrypt('secret', algorithm='RC4-128')\n"
        "w.write('outputs/two.pdf')\n"
        "r = PdfReader('outputs/two.pdf', password='secret'); print(len(r.pages), float(r.pages[0].mediabox.height))",
        "2 200.0\n",
    ),
    "pytest": Sample(
        "import pytest, sys\n"
        "class Seen:\n"
        "    def pytest_runtest_logreport(self, report):\n"
        "        if report.when == 'call': print(report.nodeid, report.outcome)\n"
        "sys.exit(pytest.main(['-p', 'no:terminal', 'test_sum.py'], plugins=[Seen()]))",
        "test_sum.py::test_sum[1] passed\ntest_sum.py::test_sum[2] failed\n",
        job={
            "files": {
                "test_sum.py": "import pytest\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_sum(n, tmp_path):\n"
                "    (tmp_path / 'x').write_text('y')\n    assert n + n == 2\n"
            }
        },
        exit_code=1,
    ),
    "python-docx": Sample(
        "from docx import Document\n"
        "d = Document(); d.add_heading('Title', 1); d.add_table(1, 2).cell(0, 1).text = 'x'; d.save('outputs/d.docx')\n"
        "back = Document('outputs/d.docx'); print(back.paragraphs[0].text, back.tables[0].cell(0, 1).text)",
        "Title x\n",
    ),
    "pyyaml": Sample(
        "import yaml\n"
        "print(yaml.safe_load('a: [1, 2]\\nb: {c: yes}'), yaml.__with_libyaml__)\n"
        "print(yaml.dump({'x': [1, None]}, Dumper=yaml.CSafeDumper), end='')",
        "{'a': [1, 2], 'b': {'c': True}} True\nx:\n- 1\n- null\n",
    ),
    "reportlab": Sample(
        "from reportlab.pdfgen import canvas\n"
        "from reportlab.platypus import SimpleDocTemplate, Paragraph\n"
        "from reportlab.lib.styles import getSampleStyleSheet\n"
        "from pypdf import PdfReader\n"
        "c = canvas.Canvas('outputs/a.pdf'); c.drawString(72, 700, 'Invoice 42'); c.save()\n"
        "SimpleDocTemplate('outputs/b.pdf').build([Paragraph('Total <b>7</b>', getSampleStyleSheet()['Normal'])])\n"
        "print([PdfReader(f'outputs/{n}.pdf').pages[0].extract_text().strip() for n in 'ab'])",
        "['Invoice 42', 'Total 7']\n",
    ),
    "seaborn": Sample(
        "import seaborn as sns, pandas as pd\n"
        "data = pd.DataFrame({'x': [1, 2, 3, 4], 'y': [1, 4, 9, 16], 'g': list('abab')})\n"
        "sns.set_theme(); sns.relplot(data=data, x='x', y='y', hue='g').savefig('outputs/plot.png')\n"
        "print(open('outputs/plot.png', 'rb').read(4))",
        "b'\\x89PNG'\n",
    ),
    "shapely": Sample(
        "from shapely import Point, Polygon, wkt\n"
        "square = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)])\n"
        "print(square.area, square.contains(Point(1, 1)), wkt.loads('LINESTRING(0 0, 3 4)').length)\n"
        "print(square.intersection(Polygon([(2, 2), (6, 2), (6, 6), (2, 6)])).area)",
        "16.0 True 5.0\n4.0\n",
    ),
    "statsmodels": Sample(
        "import numpy as np, statsmodels.api as sm, statsmodels.formula.api as smf, pandas as pd\n"
        "x = np.arange(20.0); data = pd.DataFrame({'x': x, 'y': 3 * x + 2})\n"
        "print(sm.OLS(data.y, sm.add_constant(data.x)).fit().params.round(6).to_dict())\n"
        "print(round(smf.ols('y ~ x', data).fit().rsquared, 6))",
        "{'const': 2.0, 'x': 3.0}\n1.0\n",
    ),
    "tabulate": Sample(
        "from tabulate import tabulate\nprint(tabulate([['a', 1], ['b', 2]], headers=['k', 'n'], tablefmt='github'))",
        "| k   |   n |\n|-----|-----|\n| a   |   1 |\n| b   |   2 |\n",
    ),
    "tqdm": Sample(
        "import io\nfrom tqdm import tqdm\nfrom tqdm.contrib.concurrent import thread_map\n"
        "bar = io.StringIO(); print(sum(tqdm(range(5), file=bar, mininterval=0)), '5/5' in bar.getvalue())\n"
        "print(thread_map(abs, [-1, 2], disable=True))",
        "10 True\n[1, 2]\n",
    ),
    "xlsxwriter": Sample(
        "import xlsxwriter, openpyxl\n"
        "book = xlsxwriter.Workbook('outputs/b.xlsx'); sheet = book.add_worksheet('S')\n"
        "sheet.write_row(0, 0, ['n', 2]); chart = book.add_chart({'type': 'line'})\n"
        "chart.add_series({'values': '=S!$B$1:$B$1'}); sheet.insert_chart('D1', chart)\n"
        "book.close(); print([c.value for c in openpyxl.load_workbook('outputs/b.xlsx')['S'][1]])",
        "['n', 2]\n",
    ),
}
