"""A Django site with a plugin. Each of its processes follows the table.

python -m django migrate --settings django_site.settings
gunicorn --workers 2 --threads 4 django_site.wsgi
"""
