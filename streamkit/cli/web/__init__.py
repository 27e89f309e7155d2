"""What ``streamkit console`` serves: a page over an endpoint, and what the page asks for.

watch       what is asked of the endpoint, when, and how often at most
streams readers queues keys runs    what the overview shows
looks letters                       dead letters as they were seen, and one of them whole
redrives                            letters on their way back
answers server                      what is answered to whom, over HTTP on the loopback address
page/                               the page itself: HTML, JavaScript and CSS as they are, built by nothing
"""
