"""Domains at the top that people's addresses end in.

All of the countries' own (ISO 3166-1 and the few others of two letters that are in use), and of the
generic ones those that have addresses in number. What is not here is not taken for an address:
`query@key.weight` is code.
"""

__all__ = ["TOP_LEVEL_DOMAINS"]

_COUNTRIES = """
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt
    bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er
    es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht
    hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr
    ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng
    ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd
    se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw
    tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
_GENERIC = """
    academy aero africa agency app arpa art asia associates bank bayern berlin bio biz blog business
    capital care cat cern city cloud club coach com community company consulting coop dental design
    dev digital education email energy engineering events expert family finance foundation fund
    global gmbh gov group guru hamburg health host hosting house info ink insurance int
    international jobs koeln law legal life limited live london ltd marketing media medical mil mobi
    moscow museum
    name net network news ngo nrw nyc ong online org paris partners post pro properties pub
    ruhr saarland school science services shop site social software solutions store studio swiss
    systems team tech technology tel tips today tokyo top tours training travel university ventures
    vip wien work works world xyz zone zuerich
"""

TOP_LEVEL_DOMAINS = frozenset((*_COUNTRIES.split(), *_GENERIC.split()))
